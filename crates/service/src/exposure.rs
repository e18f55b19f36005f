//! Whether a port may speak plain HTTP.

use std::net::SocketAddr;

use tracing::warn;

/// What a port offers, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Exposure {
    /// The section of its settings: `API` or `UPDATER`.
    pub section: &'static str,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether it speaks TLS.
    pub is_tls: bool,
    /// Whether requests bring tokens.
    pub has_tokens: bool,
    /// Whether it may not speak plain HTTP.
    pub require_tls: bool,
}

/// TLS is required and not set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "TABLESWAP_{section}_REQUIRE_TLS is true: set TABLESWAP_{section}_TLS_CERTIFICATE_PATH and \
     TABLESWAP_{section}_TLS_KEY_PATH"
)]
pub struct PlainHttp {
    section: &'static str,
}

impl Exposure {
    /// Refuses plain HTTP where TLS is required, and warns of tokens that others can read on their way.
    pub fn check(self) -> Result<(), PlainHttp> {
        let Self { section, listen, is_tls, has_tokens, require_tls } = self;
        if is_tls {
            return Ok(());
        }
        if require_tls {
            return Err(PlainHttp { section });
        }
        if has_tokens && !listen.ip().is_loopback() {
            warn!(
                %listen,
                "tokens are sent over plain HTTP: set TABLESWAP_{section}_TLS_CERTIFICATE_PATH and \
                 TABLESWAP_{section}_TLS_KEY_PATH, or let a proxy in front of this port speak TLS"
            );
        }
        Ok(())
    }
}
