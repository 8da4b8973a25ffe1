//! Where the store is.

use std::path::PathBuf;

/// `store.url`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `embedded:DIR`.
    Embedded(PathBuf),
    /// `redis://…` or `redis+unix://…`.
    Redis(RedisAddress),
}

/// One Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisAddress {
    /// How it is reached.
    pub place: RedisPlace,
    /// The user, where one is named.
    pub user: Option<String>,
    /// The password, where there is one. Never shown.
    pub password: Option<String>,
    /// The database.
    pub db: i64,
}

/// How a Redis is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// Over TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// Over a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user = self.user.as_deref().unwrap_or_default();
        let at = match (&self.user, &self.password) {
            (None, None) => String::new(),
            (_, Some(_)) => format!("{user}:***@"),
            (Some(_), None) => format!("{user}@"),
        };
        match &self.place {
            RedisPlace::Tcp { host, port } => write!(f, "redis://{at}{host}:{port}/{}", self.db),
            RedisPlace::Unix(path) => {
                write!(f, "redis+unix://{at}{}?db={}", path.display(), self.db)
            }
        }
    }
}

impl std::fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisAddress({self})")
    }
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedded(dir) => write!(f, "embedded:{}", dir.display()),
            Self::Redis(address) => address.fmt(f),
        }
    }
}
