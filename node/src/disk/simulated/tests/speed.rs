//! How long the disk takes; run with `--ignored --nocapture`, best with `--release`.

use std::hint::black_box;
use std::time::Duration;

use super::*;

/// Time that this thread had a processor, which others on the machine do not change.
fn now() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn forks_points_and_crashes_of_a_busy_disk_take_little_time() {
    let disk = SimulatedDisk::new();
    let mut files = Vec::new();
    for number in 0..10 {
        let path = PathBuf::from(format!("/data/{number}"));
        disk.write(&path, &vec![number; 256 * 1024]).unwrap();
        files.push(disk.open(&path, OpenMode::ReadWrite).unwrap());
    }
    disk.record();
    let mut random = SplitMix::new(1);
    let start = now();
    for step in 0..500 {
        let file = &files[random.below(10)];
        let offset = random.below(250 * 1024) as u64;
        file.write_at(&vec![step as u8; 1 + random.below(3000)], offset)
            .unwrap();
        if step % 25 == 0 {
            file.sync().unwrap();
        }
    }
    let operations = disk.operations();
    println!("{operations} recorded operations: {:?}", (now() - start));
    let time = |name: &str, run: &mut dyn FnMut(usize)| {
        let start = now();
        for round in 0..1000 {
            run(round);
        }
        println!("{name}: {:?}", (now() - start) / 1000);
    };
    time("fork", &mut |_| drop(black_box(disk.fork())));
    time("at", &mut |round| {
        drop(black_box(disk.at(round % operations)));
    });
    time("crash, mixed", &mut |round| {
        let mut choice = SeededChoice::with_tendency(round as u64, Tendency::Mixed);
        drop(black_box(disk.crash(&mut choice)));
    });
    time("at and crash, varied", &mut |round| {
        let mut choice = SeededChoice::new(round as u64);
        drop(black_box(disk.at(round % operations).crash(&mut choice)));
    });
    let twin = SimulatedDisk::new();
    twin.create_directory(Path::new("/data")).unwrap();
    time("twin created", &mut |round| {
        let path = PathBuf::from(format!("/data/{round}"));
        super::super::super::Twin::create(&twin.fork(), &path, *b"QDRTEST\0", 1, b"x").unwrap();
    });
}
