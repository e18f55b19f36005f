//! Connections and their errors.

use std::fmt;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder, SslOpts};
use tokio::time::error::Elapsed;

use crate::Error;

/// What every session needs, whatever the server's defaults and its `init_connect` are.
const SESSION: &str = "SET NAMES utf8mb4, SESSION autocommit = 1, time_zone = '+00:00', \
    tx_isolation = 'READ-COMMITTED', tx_read_only = 0, \
    sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO', \
    sql_select_limit = 18446744073709551615, sql_big_selects = 1, max_join_size = 18446744073709551615, \
    sql_safe_updates = 0, unique_checks = 1, foreign_key_checks = 1";

/// Letters of several scripts, and what they are in UTF-8: a session that changes them would change rows and keys.
const LETTERS: &str = "A\u{e4}\u{8a9e}\u{42f}";
const LETTERS_UTF8: &str = "41C3A4E8AA9ED0AF";

/// A load may send nothing for a while, when its rows are merged; but none of its statements waits long for a lock. What
/// its host leaves behind is killed by the next publisher.
const PATIENT: &str = "SET SESSION wait_timeout = 3600, lock_wait_timeout = 5, net_read_timeout = 600, \
    max_statement_time = 0";

/// A long list of keys is looked up as such, and not as a table that is made for it.
const LISTS: &str = "SET SESSION in_predicate_conversion_threshold = 0";

/// Where a database is, and who asks. Its `Debug` shows no password.
#[derive(Clone)]
pub struct Address(Opts);

impl Address {
    /// Reads `mysql://user:password@host:port/database`; the error does not repeat it.
    pub(crate) fn from_url(url: &str) -> Result<Self, String> {
        if url.contains('?') {
            return Err(
                "the URL takes no parameters: TLS is set by TABLESWAP_STORE_TLS_MODE and the like".into()
            );
        }
        let opts = Opts::from_url(url).map_err(|error| error.to_string())?;
        if opts.db_name().is_none_or(str::is_empty) {
            return Err("the URL names no database: expected mysql://user:password@host:port/database".into());
        }
        let is_usual = |char: char| char.is_alphanumeric() || matches!(char, '_' | '-' | '$');
        if !opts.db_name().unwrap_or_default().chars().all(is_usual) {
            return Err("the name of the database may hold letters, digits, `_`, `-` and `$`".into());
        }
        Ok(Self(opts))
    }

    /// For the log.
    pub(super) fn host(&self) -> String {
        format!("{}:{}", self.0.ip_or_hostname(), self.0.tcp_port())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = (self.0.ip_or_hostname(), self.0.tcp_port());
        write!(f, "mysql://***@{host}:{port}/{}", self.0.db_name().unwrap_or_default())
    }
}

/// How often a silent connection is probed.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How a connection is made that writes.
pub(super) fn opts(address: &Address, tls: Option<SslOpts>) -> Opts {
    OptsBuilder::from_opts(address.0.clone())
        .ssl_opts(tls)
        // A socket would go around whatever stands between the service and the port that it was given.
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE))
        .setup(vec![SESSION, PATIENT])
        .into()
}

/// How a connection is made that only reads.
pub(super) fn reading(address: &Address, tls: Option<SslOpts>, timeout_ms: u64) -> Opts {
    // The server gives a query up when nobody waits for it any more.
    let limit = format!("SET SESSION max_statement_time = {}", timeout_ms.div_ceil(1000).max(1));
    OptsBuilder::from_opts(address.0.clone())
        .ssl_opts(tls)
        .prefer_socket(false)
        .tcp_keepalive(Some(KEEPALIVE))
        .stmt_cache_size(64usize)
        .setup(vec![SESSION.to_owned(), LISTS.to_owned(), limit])
        .into()
}

/// A statement with a thousand keys of the longest kind, or a piece of a load, fits into this.
const PACKET_BYTES_MIN: u64 = 1 << 20;

fn small_packets() -> Error {
    Error::Setup(
        "max_allowed_packet of the database is too small: set it to 16M or more in its configuration".into(),
    )
}

/// Opens a connection and checks it. Returns which server it leads to, too.
pub(super) async fn open(opts: &Opts) -> Result<(Conn, String), Error> {
    let mut conn = Conn::new(opts.clone()).await?;
    let server = check_session(&mut conn).await?;
    Ok((conn, server))
}

/// Makes sure that texts go through a session unchanged, in both directions, and returns which server it leads to.
async fn check_session(conn: &mut Conn) -> Result<String, Error> {
    let select = format!(
        "SELECT CONCAT_WS('/', @@hostname, @@port, @@server_id, @@datadir), CHAR_LENGTH('{LETTERS}'), \
         CONVERT(x'{LETTERS_UTF8}' USING utf8mb4), @@max_allowed_packet"
    );
    // What cannot be read as UTF-8 is no error of the connection.
    let seen: Option<(String, u64, Vec<u8>, u64)> = conn.query_first(select).await?;
    match seen {
        Some((.., packet_bytes)) if packet_bytes < PACKET_BYTES_MIN => Err(small_packets()),
        Some((server, 4, letters, _)) if letters == LETTERS.as_bytes() => Ok(server),
        _ => Err(Error::Setup(
            "the database changes texts on their way: set character_set_server = utf8mb4 and check \
             skip-character-set-client-handshake and init_connect in its configuration"
                .into(),
        )),
    }
}

/// Whether the same statement may succeed on another connection.
pub(super) fn may_pass(error: &mysql_async::Error) -> bool {
    is_lost(error) || server_code(error) == Some(code::NEED_REPREPARE)
}

/// Whether the server has no connection left for us.
pub(super) fn is_too_many(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else { return false };
    let error = cause.downcast_ref::<mysql_async::Error>();
    matches!(error.and_then(server_code), Some(1040 | 1203 | 1226))
}

/// A database that has not answered a small statement after this long hangs.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Some statements that take no longer than a moment, unless the database hangs.
pub(super) async fn in_time<T, E>(statements: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    in_time_of(STATEMENT_TIMEOUT, statements).await
}

/// Some statements that take no longer than this.
pub(super) async fn in_time_of<T, E>(
    timeout: Duration,
    statements: impl Future<Output = Result<T, E>>,
) -> Result<T, Error>
where
    Error: From<E>,
{
    Ok(tokio::time::timeout(timeout, statements).await.map_err(timed_out)??)
}

pub(super) fn timed_out(elapsed: Elapsed) -> Error {
    Error::Unavailable(elapsed.into())
}

/// Whether the connection on which this came cannot be used any more: it is gone, or a statement was given up on it.
pub(super) fn is_broken(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else { return false };
    let lost = cause.downcast_ref::<mysql_async::Error>().is_some_and(is_lost);
    lost || cause.is::<Elapsed>() || cause.is::<std::io::Error>()
}

/// Error codes of the server.
pub(super) mod code {
    pub(in crate::mariadb) const UNKNOWN_COLUMN: u16 = 1054;
    pub(in crate::mariadb) const NO_SUCH_TABLE: u16 = 1146;
    pub(in crate::mariadb) const LOCK_WAIT_TIMEOUT: u16 = 1205;
    pub(in crate::mariadb) const DEADLOCK: u16 = 1213;
    pub(in crate::mariadb) const NEED_REPREPARE: u16 = 1615;
    pub(in crate::mariadb) const DUPLICATE_KEY: u16 = 1062;
    pub(in crate::mariadb) const STATEMENT_TIMEOUT: u16 = 1969;
    pub(in crate::mariadb) const TOO_MANY_PREPARED: u16 = 1461;
}

/// The code of an error that the server sent.
pub(super) fn server_code(error: &mysql_async::Error) -> Option<u16> {
    match error {
        mysql_async::Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// Whether the connection is gone, so that nobody knows what became of its last statement.
pub(super) fn is_lost(error: &mysql_async::Error) -> bool {
    use mysql_async::DriverError::{ConnectionClosed, PacketOutOfOrder, PoolDisconnected};
    match error {
        mysql_async::Error::Io(_) => true,
        mysql_async::Error::Driver(error) => {
            matches!(error, ConnectionClosed | PacketOutOfOrder | PoolDisconnected)
        }
        // The server is going down, or somebody killed the connection.
        mysql_async::Error::Server(error) => matches!(error.code, 1053 | 1927 | 2006 | 2013),
        _ => false,
    }
}

/// Whether a text of the server names a full disk (28) or a full table file (135) as the cause.
fn is_full(error: &mysql_async::Error) -> bool {
    let text = error.to_string();
    let number =
        text.split("rrno: ").nth(1).and_then(|rest| rest.split(|char: char| !char.is_ascii_digit()).next());
    matches!(number, Some("28" | "135")) || text.contains("No space left on device")
}

/// What is missing, in words that name no user and no host.
fn missing(error: &mysql_async::Error) -> String {
    let mysql_async::Error::Server(error) = error else { return "access".into() };
    match error.code {
        1142 | 1143 => {
            let right = error.message.split(" command denied").next().unwrap_or_default();
            let on = error.message.rsplit("for table ").next().filter(|rest| rest.starts_with(['`', '\'']));
            let on = on.map(|table| format!(" on {table}")).unwrap_or_default();
            format!("its user lacks the right {right}{on}")
        }
        1290 | 1792 | 1836 => "it is read-only".into(),
        _ => "its user has no access".into(),
    }
}

impl From<mysql_async::Error> for Error {
    fn from(error: mysql_async::Error) -> Self {
        if is_lost(&error) {
            return Self::Unavailable(error.into());
        }
        match server_code(&error) {
            // Disk full, table full, no space for a temporary file.
            Some(1021 | 1114 | 3) => Self::NoSpace(error.into()),
            // An error of the storage engine or the file system whose text says that it is that.
            Some(1005 | 1025 | 1026 | 1030) if is_full(&error) => Self::NoSpace(error.into()),
            // Too many connections, blocked host, out of time, interrupted.
            Some(1040 | 1129 | 1130 | 1203 | 1205 | 1226 | 1317 | 1969) => Self::Unavailable(error.into()),
            Some(1044 | 1045 | 1142 | 1143 | 1227 | 1290 | 1792 | 1836) => {
                Self::Refused { what: missing(&error), source: error.into() }
            }
            Some(1148 | 4166) => Self::Setup(
                "the database refuses LOAD DATA LOCAL: set local_infile = ON in the server's configuration"
                    .into(),
            ),
            Some(1665) => Self::Setup(
                "the database logs statements and not rows: set binlog_format = MIXED or ROW in its configuration"
                    .into(),
            ),
            Some(1153) => small_packets(),
            _ => Self::Other(error.into()),
        }
    }
}
