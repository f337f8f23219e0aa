//! A server that speaks S3's language, over a folder.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// A running server; it ends with this value. It checks signatures.
#[derive(Debug)]
pub struct ObjectStore {
    address: SocketAddr,
    folder: PathBuf,
    task: JoinHandle<()>,
}

impl ObjectStore {
    /// Serves the buckets in a folder on a free port, to whoever has this pair of keys.
    ///
    /// # Errors
    /// When the folder or the port cannot be used.
    pub async fn start(
        folder: &Path,
        address: IpAddr,
        access_key: &str,
        secret_key: &str,
    ) -> io::Result<Self> {
        let files =
            FileSystem::new(folder).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        let service = builder.build();
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let server = Builder::new(TokioExecutor::new());
            while let Ok((socket, _)) = listener.accept().await {
                let connection = server
                    .serve_connection(TokioIo::new(socket), service.clone())
                    .into_owned();
                tokio::spawn(async move {
                    // A client that hangs up is no concern of the others.
                    let _ = connection.await;
                });
            }
        });
        Ok(Self {
            address,
            folder: folder.to_owned(),
            task,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn make_bucket(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.folder.join(name))
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A line to a server that carries no more than so many bytes a second to it, however many connections
/// share it. It ends with this value.
#[derive(Debug)]
pub struct SlowLine {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl SlowLine {
    /// A line to `server`, with an address of its own.
    ///
    /// # Errors
    /// When no port can be used.
    pub async fn to(server: SocketAddr, bytes_per_second: u32) -> io::Result<Self> {
        let listener = TcpListener::bind((server.ip(), 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let turn = Arc::new(Mutex::new(()));
            while let Ok((client, _)) = listener.accept().await {
                let turn = turn.clone();
                // Whichever end hangs up, the other is told by its connection.
                tokio::spawn(async move { carry(client, server, &turn, bytes_per_second).await });
            }
        });
        Ok(Self { address, task })
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    client: TcpStream,
    server: SocketAddr,
    turn: &Mutex<()>,
    bytes_per_second: u32,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
    let there = async {
        let mut piece = vec![0; 16 * 1024];
        loop {
            let bytes = from_client.read(&mut piece).await?;
            if bytes == 0 {
                return to_server.shutdown().await;
            }
            let _turn = turn.lock().await;
            let share = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
            tokio::time::sleep(Duration::from_secs_f64(share / f64::from(bytes_per_second))).await;
            to_server.write_all(&piece[..bytes]).await?;
        }
    };
    let back = async {
        tokio::io::copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(there, back).map(|_| ())
}
