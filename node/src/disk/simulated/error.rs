//! Errors as Linux gives them, with their number, so that a caller cannot tell the difference.

use std::io;

pub(super) const NOT_FOUND: i32 = 2;
pub(super) const INPUT_OUTPUT: i32 = 5;
pub(super) const BAD_HANDLE: i32 = 9;
pub(super) const BUSY: i32 = 16;
pub(super) const EXISTS: i32 = 17;
pub(super) const NOT_A_DIRECTORY: i32 = 20;
pub(super) const IS_A_DIRECTORY: i32 = 21;
pub(super) const INVALID: i32 = 22;
pub(super) const NO_SPACE: i32 = 28;
pub(super) const NOT_EMPTY: i32 = 39;

/// The error of the operating system with this number.
pub(super) fn os(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

/// A test asked for something that makes no sense.
pub(super) fn misuse(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
