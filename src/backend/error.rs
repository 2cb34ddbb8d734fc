use std::{error::Error, fmt};

/// Why a backend did not do what it was asked.
///
/// Opaque but for its [`kind`](Self::kind) and its [`source`](Error::source), so that no type of a client library is
/// part of this crate's interface.
pub struct BackendError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What went wrong, as far as a caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration cannot work: a malformed address, a wrong password, a missing right.
    Config,
    /// The store cannot be reached; the operation was not sent.
    Unavailable,
    /// No answer came; whether the operation took place is unknown.
    Unknown,
    /// The store refused the operation: out of memory, read-only, loading, busy.
    Refused,
    /// The store answered what this version does not understand.
    Protocol,
}

impl BackendError {
    /// An error of this kind. `message` is one lower-case clause that names the cause and, if there is one, the remedy.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the operation may have taken place although no answer came.
    pub fn may_have_run(&self) -> bool {
        matches!(self.kind, ErrorKind::Unknown | ErrorKind::Protocol)
    }
}

/// As a person reads it, because that is what `main` shows of the error it returns.
impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.message, self.kind)?;
        self.source.iter().try_for_each(|source| write!(f, ": {source}"))
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for BackendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
