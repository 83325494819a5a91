//! Files with a mode, and free ports.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// Writes a file that only its owner may read.
pub fn write_secret(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    write_with_mode(path, text, 0o600);
}

/// Writes a file with a mode, whatever the umask is.
pub fn write_with_mode(path: impl AsRef<Path>, text: impl AsRef<[u8]>, mode: u32) {
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// An unused port of loopback that no other test of this process gets. It is below the ports that
/// Linux assigns by itself, so that nothing takes it while its server restarts.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Test programs that run at the same time begin far apart.
        let number = std::process::id().wrapping_mul(97) % COUNT;
        let number = number + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
