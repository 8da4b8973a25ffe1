//! Meaning of errors: either the store is unavailable and all operations wait, or one operation is
//! refused and the next one follows.

use redis::{ErrorKind, RedisError, ServerError, Value};

use crate::store::StoreError;

/// Longest text of an error, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// Code of a server that takes one key a command.
pub(super) const CROSSSLOT: &str = "CROSSSLOT";

/// Codes of a server that cannot serve now, or not this user. MOVED, ASK and CROSSSLOT come from a
/// cluster, where no operation can be at fault.
const UNAVAILABLE_CODES: [&str; 15] = [
    "LOADING",
    "READONLY",
    "OOM",
    "MISCONF",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "NOPERM",
    "NOAUTH",
    "MASTERDOWN",
    "BUSY",
    "UNKILLABLE",
    "MOVED",
    "ASK",
    CROSSSLOT,
];

/// Error of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The store cannot serve: the operation and all behind it wait.
    Unavailable(String),
    /// The operation is refused for good.
    Own(String),
}

impl Fault {
    /// The error of a call that is no operation.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Unavailable(text) | Self::Own(text) => StoreError::Unavailable(text),
        }
    }
}

/// A reply of an unexpected type: the server is not Redis, or its replies are out of step.
pub(super) fn unexpected(value: &Value) -> Fault {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    Fault::Unavailable(format!("unexpected reply: {kind}"))
}

/// The error as one short line.
pub(super) fn text(error: &ServerError) -> String {
    let mut line = match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    };
    shorten(&mut line);
    line
}

/// Meaning of a server's error for the operation.
pub(super) fn judge(error: &ServerError) -> Fault {
    let line = text(error);
    let details = error.details().unwrap_or_default();
    // Before version 7 an error inside a script was wrapped, with its code in the middle.
    let wrapped = error.code() == "ERR"
        && details.starts_with("Error running script")
        && UNAVAILABLE_CODES.iter().any(|code| {
            details.contains(&format!(": -{code} ")) || details.contains(&format!(": {code} "))
        });
    // In version 7 a script without a permission gets an error without a code.
    let forbidden = details.contains("The user executing the script can't")
        || details.contains("max number of clients");
    // A renamed command is missing for all operations.
    let missing = details.starts_with("unknown command")
        || details.starts_with("unknown subcommand")
        || details.contains("Unknown Redis command");
    if let Some(name) = unknown_command(details) {
        return Fault::Unavailable(unusable(name, "unknown command", 1));
    }
    if UNAVAILABLE_CODES.contains(&error.code())
        || wrapped
        || (error.code() == "ERR" && (forbidden || missing))
    {
        Fault::Unavailable(line)
    } else {
        Fault::Own(line)
    }
}

/// The command in an error that says that it is unknown. Redis puts its arguments behind it.
fn unknown_command(details: &str) -> Option<&str> {
    let rest = details.strip_prefix("unknown command ")?;
    rest.split(['\'', '`'])
        .nth(1)
        .filter(|name| !name.is_empty())
}

/// The credential that the server refuses, if any.
pub(super) fn refused(error: &ServerError) -> Option<&'static str> {
    let details = error.details().unwrap_or_default();
    let says =
        |signs: &[&str]| error.code() == "ERR" && signs.iter().any(|sign| details.contains(sign));
    if matches!(error.code(), "WRONGPASS" | "NOAUTH") || says(&["invalid password", "AUTH"]) {
        Some("its user or password")
    } else if says(&["DB index is out of range", "invalid DB index"]) {
        Some("its database number")
    } else {
        None
    }
}

/// Text about a server that refuses needed commands, `count` in all.
pub(super) fn unusable(command: &str, why: &str, count: usize) -> String {
    let mut line = match count {
        1 => format!("it refuses {command}, which is needed: {why}"),
        _ => format!(
            "it refuses {command} and {} other commands that are needed: {why}",
            count - 1
        ),
    };
    shorten(&mut line);
    line
}

/// The error of a failed connection. The operations in progress may be the cause.
pub(super) fn broken(error: &RedisError) -> StoreError {
    let mut line = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connection_dropped() {
        "the connection was closed".to_owned()
    } else if matches!(
        error.kind(),
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType
    ) {
        "the server does not speak the Redis protocol".to_owned()
    } else {
        error.to_string()
    };
    shorten(&mut line);
    StoreError::Broken(line)
}

/// Shortens a line at a character boundary.
fn shorten(line: &mut String) {
    if line.len() > TEXT_BYTES_MAX {
        line.truncate(line.floor_char_boundary(TEXT_BYTES_MAX));
        line.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> ServerError {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(Value::ServerError(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_command_is_named_without_arguments() {
        for quote in ["'EVALSHA'", "`EVALSHA`"] {
            let line = format!("ERR unknown command {quote}, with args beginning with: 'eb8c' '1'");
            let Fault::Unavailable(text) = judge(&error(&line)) else {
                panic!("{line}");
            };
            assert_eq!(text, "it refuses EVALSHA, which is needed: unknown command");
        }
    }

    #[test]
    fn errors_are_the_stores_or_the_operations() {
        for away in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "NOREPLICAS Not enough good replicas to write.",
            "NOPERM this user has no permissions to run the 'sadd' command",
            "MOVED 3999 127.0.0.1:6381",
            "ERR max number of clients reached",
            "ERR unknown command 'HSET', with args beginning with: 'x'",
            "ERR Unknown Redis command called from script script: 1, on @user_script:6.",
            "ERR The user executing the script can't run this command or subcommand script: 1",
            "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed",
            "ERR Error running script (call to f_1): @user_script:1: READONLY You can't",
        ] {
            assert!(
                matches!(judge(&error(away)), Fault::Unavailable(_)),
                "{away}"
            );
        }
        for own in [
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR hash value is not an integer",
            "ERR Error running script (call to f_1): @user_script:1: WRONGTYPE Operation",
        ] {
            assert!(matches!(judge(&error(own)), Fault::Own(_)), "{own}");
        }
    }

    #[test]
    fn a_refused_password_is_recognized() {
        for line in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOAUTH Authentication required.",
            "ERR invalid password",
            "ERR AUTH <password> called without any password configured for the default user.",
        ] {
            assert_eq!(
                refused(&error(line)),
                Some("its user or password"),
                "{line}"
            );
        }
        for line in ["ERR DB index is out of range", "ERR invalid DB index"] {
            assert_eq!(refused(&error(line)), Some("its database number"), "{line}");
        }
        assert_eq!(refused(&error("ERR max number of clients reached")), None);
        assert_eq!(refused(&error("LOADING Redis is loading")), None);
    }

    #[test]
    fn long_errors_are_cut_at_a_character_boundary() {
        let mut line = "ä".repeat(400);
        shorten(&mut line);
        assert!(line.len() <= TEXT_BYTES_MAX + '…'.len_utf8());
        assert!(line.ends_with('…'));
    }
}
