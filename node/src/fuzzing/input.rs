//! Values from the bytes that a fuzzer gives.

/// Bytes that are taken from the front. When they end, zeros follow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `length` bytes.
    pub(crate) fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let taken = self.take(N);
        bytes[..taken.len()].copy_from_slice(taken);
        bytes
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// 16 bits.
    pub(crate) fn short(&mut self) -> usize {
        usize::from(u16::from_le_bytes(self.array()))
    }

    /// 32 bits.
    pub(crate) fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub(crate) fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub(crate) fn wide(&mut self) -> u128 {
        u128::from_le_bytes(self.array())
    }

    /// As many bytes as the next 16 bits say.
    pub(crate) fn sized(&mut self) -> &'a [u8] {
        let length = self.short();
        self.take(length)
    }
}
