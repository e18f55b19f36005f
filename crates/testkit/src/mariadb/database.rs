//! A database for one test on a server that many tests share.

use super::client::Client;

/// The password of every user that [`Database`] makes: a test can look for it where no secret may stand.
pub const PASSWORD: &str = "only-for-tests";

/// A fresh database and its two users. It stays when it is dropped: the whole server is removed in the end.
#[derive(Clone, Debug)]
pub struct Database {
    client: Client,
    port: u16,
    name: String,
}

impl Database {
    pub(super) fn create(client: Client, port: u16, name: String) -> Database {
        let sql = format!(
            "CREATE DATABASE {name};
            CREATE USER {name}_writer@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
            CREATE USER {name}_owner@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
            CREATE USER {name}_reader@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';
            GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP ON {name}.* TO {name}_writer@'127.0.0.1';
            GRANT ALL PRIVILEGES ON {name}.* TO {name}_owner@'127.0.0.1';
            GRANT SELECT ON {name}.* TO {name}_reader@'127.0.0.1';"
        );
        client.run(None, &sql).expect("make a database");
        Database { client, port, name }
    }

    /// The name, which no other database of this server has.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address for a user with the rights that an updater needs and no others.
    pub fn url(&self) -> String {
        self.url_via(self.port)
    }

    /// The address for the user who has SELECT only.
    pub fn reader_url(&self) -> String {
        self.reader_url_via(self.port)
    }

    /// The address for a user who may do everything in this database, as others do who work in it.
    pub fn owner_url(&self) -> String {
        self.url_of("owner", self.port)
    }

    /// As [`Database::url`], but through another port, such as that of a [`FaultProxy`](crate::FaultProxy).
    pub fn url_via(&self, port: u16) -> String {
        self.url_of("writer", port)
    }

    /// As [`Database::reader_url`], but through another port.
    pub fn reader_url_via(&self, port: u16) -> String {
        self.url_of("reader", port)
    }

    /// Runs statements as root, and gives their rows: tab-separated, a line each, no headers, no newline at the
    /// end. Panics with the server's message.
    pub fn execute(&self, sql: &str) -> String {
        self.try_execute(sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// As [`Database::execute`], but gives the server's message. It waits for as long as the server is paused.
    pub fn try_execute(&self, sql: &str) -> Result<String, String> {
        self.client.run(Some(&self.name), sql)
    }

    fn url_of(&self, role: &str, port: u16) -> String {
        let name = &self.name;
        format!("mysql://{name}_{role}:{PASSWORD}@127.0.0.1:{port}/{name}")
    }
}
