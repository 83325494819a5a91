//! Files with a mode, and free ports.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Writes a file that only its owner may read.
pub fn write_secret(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    write_with_mode(path, text, 0o600);
}

/// Writes a file with a mode, whatever the umask is.
pub fn write_with_mode(path: impl AsRef<Path>, text: impl AsRef<[u8]>, mode: u32) {
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// An unused port of loopback.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
