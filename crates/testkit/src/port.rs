//! Free ports of the loopback interface.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Where ports are looked for: below those that the kernel gives to outgoing connections (32768 and up), which
/// would otherwise now and then take a port between the look and the bind, or while a server restarts.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// Begins at random, so that test processes that run side by side look at different ports, and only grows, so
/// that one process does not hand out the same port twice.
static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
    let random = RandomState::new().hash_one(std::process::id()) % u64::from(COUNT);
    AtomicU16::new(u16::try_from(random).unwrap_or_default())
});

/// A port of 127.0.0.1 that nobody listens on at this moment.
pub fn free_port() -> u16 {
    (0..COUNT)
        .map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("no free port between 20000 and 29999")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound_and_is_handed_out_once() {
        let (one, other) = (free_port(), free_port());
        assert_ne!(one, other);
        assert!(TcpListener::bind(("127.0.0.1", one)).is_ok());
    }

    #[test]
    fn a_port_in_use_is_passed_over() {
        let taken = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
        let taken = taken.local_addr().unwrap().port();
        assert!((0..COUNT).map(|_| free_port()).all(|port| port != taken));
    }
}
