//! What errors of the client library and of the server mean to a caller.

use redis::{RedisError, ServerError, Value};

use super::{BackendError, ErrorKind, breaker::Outcome};

/// An error that can be reported to many callers.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) message: String,
    pub(super) source: Option<RedisError>,
    pub(super) outcome: Outcome,
    /// The connection must be replaced: it is gone, or leads to a server that does not take writes.
    pub(super) replace: bool,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let outcome = if kind == ErrorKind::Protocol { Outcome::Answered } else { Outcome::Failed };
        Self { kind, message: message.into(), source: None, outcome, replace: false }
    }

    /// No answer in time.
    pub(super) fn timeout(message: impl Into<String>) -> Self {
        Self { outcome: Outcome::TimedOut, ..Self::new(ErrorKind::Unknown, message) }
    }

    /// The server accepted, or seemed to, and then said nothing.
    pub(super) fn silent(place: &str) -> Self {
        let why = "it did not answer in time; check address, network and firewall";
        Self::new(ErrorKind::Unavailable, format!("cannot connect to redis at {place}: {why}"))
    }

    /// The server accepted and closed again.
    pub(super) fn short_lived(place: &str) -> Self {
        let why = "it closed a connection that had just been made; its log may tell why";
        Self::new(ErrorKind::Unavailable, format!("redis at {place} is left alone for a moment: {why}"))
    }

    /// The tasks that keep the connections are gone.
    pub(super) fn orphaned() -> Self {
        let why = "the task that keeps the connection is gone: the tokio runtime on which this handle was made has \
                   ended (make one on the runtime that uses it), or the task panicked (what it printed tells why)";
        Self::new(ErrorKind::Unavailable, why)
    }

    /// An answer that this version does not understand.
    ///
    /// It says of what kind the answer is, but not what stands in it: that may be somebody's result.
    pub(super) fn odd(value: &Value) -> Self {
        let kind = match value {
            Value::Nil => "nothing",
            Value::Int(_) => "a number",
            Value::BulkString(_) | Value::SimpleString(_) => "a string",
            Value::Array(_) => "a list",
            _ => "something",
        };
        Self::new(ErrorKind::Protocol, format!("redis answered with {kind} that this version does not understand"))
    }

    /// An operation that was sent and failed.
    pub(super) fn of_operation(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self { source: Some(error), ..Self::timeout("redis did not answer in time") };
        }
        match ServerError::try_from(error) {
            Ok(error) => Self::of_server(error),
            Err(error) => Self {
                replace: error.is_unrecoverable_error(),
                source: Some(error),
                ..Self::new(ErrorKind::Unknown, "the connection to redis was lost before the answer came")
            },
        }
    }

    /// An error that the server sent.
    pub(super) fn of_server(error: ServerError) -> Self {
        let code = code(&error);
        let (kind, message) = match code {
            "NOAUTH" => (ErrorKind::Config, "redis asks for a password; put it into the address"),
            "WRONGPASS" => (ErrorKind::Config, "redis refused user name and password; check both in the address"),
            "NOPERM" => (
                ErrorKind::Config,
                "the redis user lacks a right; the documentation of backend::redis lists the rights it needs",
            ),
            "OOM" => (ErrorKind::Refused, "redis is out of memory; raise maxmemory or set an eviction policy"),
            "NOREPLICAS" => (ErrorKind::Refused, "redis has too few replicas to accept writes"),
            "LOADING" => (ErrorKind::Refused, "redis is still loading its data"),
            "BUSY" => (ErrorKind::Refused, "redis is busy with a script"),
            "READONLY" => (ErrorKind::Refused, "this redis is a read-only replica; connect to its primary"),
            "MASTERDOWN" => (ErrorKind::Refused, "this redis is a replica that lost its primary"),
            "MISCONF" => (ErrorKind::Refused, "redis cannot persist to disk and therefore refuses writes"),
            "MOVED" | "ASK" => (
                ErrorKind::Config,
                "this is a node of a redis cluster, and clusters are not supported yet; use a redis that is none",
            ),
            "CLUSTERDOWN" | "TRYAGAIN" => (ErrorKind::Refused, "the redis cluster is not ready for this key"),
            _ => (ErrorKind::Protocol, "redis answered with an unexpected error"),
        };
        let replace = matches!(code, "READONLY" | "MASTERDOWN" | "NOAUTH");
        Self { source: Some(error.into()), replace, ..Self::new(kind, message) }
    }

    /// A connection that could not be made to the server at `place`.
    pub(super) fn of_connecting(place: &str, error: RedisError) -> Self {
        let kind = error.kind();
        if kind == redis::ErrorKind::AuthenticationFailed {
            let message = format!("redis at {place} refused user name and password; check both in the address");
            return Self { source: Some(error), ..Self::new(ErrorKind::Config, message) };
        }
        if kind == redis::ErrorKind::InvalidClientConfig {
            let message = format!("the settings for redis at {place} cannot work: {error}");
            return Self { source: Some(error), ..Self::new(ErrorKind::Config, message) };
        }
        match ServerError::try_from(error) {
            Ok(error) => {
                let failure = Self::of_server(error.clone());
                if failure.kind != ErrorKind::Protocol {
                    return failure;
                }
                let why = match error.details() {
                    Some(details) if details.contains("max number of clients") => {
                        "it has as many clients as it may; raise its maxclients, or find out who keeps so many"
                    }
                    details => details.unwrap_or(error.code()),
                };
                let message = format!("redis at {place} refused the connection: {why}");
                Self { source: Some(error.clone().into()), ..Self::new(ErrorKind::Unavailable, message) }
            }
            Err(error) => {
                let why = if error.is_connection_refusal() {
                    "nothing listens there; start the server or correct the address".to_owned()
                } else if error.is_timeout() {
                    "it did not answer in time; check address, network and firewall".to_owned()
                } else {
                    format!("{error}; check the address")
                };
                let message = format!("cannot connect to redis at {place}: {why}");
                Self { source: Some(error), ..Self::new(ErrorKind::Unavailable, message) }
            }
        }
    }
}

/// What is wrong, also if it went wrong inside a script: a missing right is then told in words, and before version 7
/// every error of a command is wrapped into one of the script.
fn code(error: &ServerError) -> &str {
    let details = error.details().unwrap_or_default();
    if error.code() != "ERR" {
        return error.code();
    }
    if details.contains("The user executing the script can't") {
        return "NOPERM";
    }
    let wrapped = details.starts_with("Error running script");
    let inner = details.split_whitespace().find_map(|word| word.strip_prefix('-'));
    inner.filter(|_| wrapped).unwrap_or("ERR")
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        let error = Self::new(failure.kind, failure.message);
        match failure.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Failure {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        let Value::ServerError(error) = value else { panic!("{line} is an error") };
        Failure::of_server(error)
    }

    #[test]
    fn errors_of_the_server_say_what_a_caller_can_do() {
        let oom = "OOM command not allowed when used memory > 'maxmemory'.";
        let wrapped = format!("ERR Error running script (call to f_0): @user_script:1: @user_script: 1: -{oom}");
        for (line, kind, replace) in [
            (oom, ErrorKind::Refused, false),
            (&wrapped, ErrorKind::Refused, false),
            ("READONLY You can't write against a read only replica.", ErrorKind::Refused, true),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::Refused, true),
            ("LOADING Redis is loading the dataset in memory", ErrorKind::Refused, false),
            ("BUSY Redis is busy running a script", ErrorKind::Refused, false),
            ("NOREPLICAS Not enough good replicas to write.", ErrorKind::Refused, false),
            ("NOPERM this user has no permissions to run the 'get' command", ErrorKind::Config, false),
            ("ERR The user executing the script can't run this command", ErrorKind::Config, false),
            ("MOVED 3999 127.0.0.1:6381", ErrorKind::Config, false),
            ("ASK 3999 127.0.0.1:6381", ErrorKind::Config, false),
            ("ERR value is not an integer or out of range", ErrorKind::Protocol, false),
            ("WRONGTYPE Operation against a key", ErrorKind::Protocol, false),
        ] {
            let failure = of(line);
            assert_eq!((failure.kind, failure.replace), (kind, replace), "{line}");
        }
    }

    #[test]
    fn only_what_speaks_against_the_server_counts_against_it() {
        assert_eq!(of("WRONGTYPE Operation against a key").outcome, Outcome::Answered);
        assert_eq!(of("OOM command not allowed").outcome, Outcome::Failed);
        assert_eq!(Failure::timeout("late").outcome, Outcome::TimedOut);
    }
}
