//! How many wrong tokens one address may try: ten at once, then one every six seconds.
//!
//! A right token always passes, so that nobody can lock the clients of a shared address out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong tokens that an address may send at once.
const BURST: u32 = 10;

/// After the burst, one wrong token is allowed in this time.
const REFILL: Duration = Duration::from_secs(6);

/// Addresses that are remembered. Where there are more, those that are back at the full burst are forgotten first.
const ADDRESSES_MAX: usize = 10_000;

/// Counts the wrong tokens of each address.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<IpAddr, Instant>>);

impl Attempts {
    /// Counts a wrong token. Says whether the address is still within its limit.
    pub(crate) fn count(&self, address: IpAddr, now: Instant) -> bool {
        // For each address, the time at which all its attempts are paid for.
        let mut paid_at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = network(address);
        if paid_at.len() >= ADDRESSES_MAX && !paid_at.contains_key(&network) {
            paid_at.retain(|_, paid| *paid > now);
            if paid_at.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        let paid = paid_at.entry(network).or_insert(now);
        let next = (*paid).max(now) + REFILL;
        if next > now + REFILL * BURST {
            return false;
        }
        *paid = next;
        true
    }
}

/// One client has a whole /64 of IPv6 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_ten_attempts_and_then_one_every_six_seconds() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let (one, other): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert_eq!((0..20).filter(|_| attempts.count(one, now)).count(), 10);
        assert!(attempts.count(other, now));
        assert!(!attempts.count(one, now + REFILL / 2));
        assert!(attempts.count(one, now + REFILL) && !attempts.count(one, now + REFILL));
        assert_eq!((0..20).filter(|_| attempts.count(one, now + REFILL * 100)).count(), 10);
    }

    #[test]
    fn the_memory_for_addresses_is_bounded_and_a_network_of_ipv6_counts_as_one() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in (0..).take(ADDRESSES_MAX * 2) {
            attempts.count(std::net::Ipv4Addr::from_bits(number).into(), now);
        }
        assert_eq!(attempts.0.lock().unwrap().len(), ADDRESSES_MAX);
        assert!(attempts.count([10, 0, 0, 1].into(), now + REFILL * 2));
        let attempts = Attempts::default();
        let address = |last: u128| IpAddr::from(Ipv6Addr::from(0x2001_0db8_u128 << 96 | last));
        assert_eq!((0..20).filter(|last| attempts.count(address(*last), now)).count(), 10);
    }
}
