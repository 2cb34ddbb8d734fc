use std::{fmt, str::FromStr, sync::Arc};

use super::error::TokenError;

/// Longer tokens would be paid for with every request.
const LONGEST: usize = 256;

/// What makes a holder the holder: whoever knows the token may extend and release the lock.
///
/// It can be handed to another process, as text, which goes on with [`Mutex::from_token`](super::Mutex::from_token).
/// Equal tokens are one holder. A token that is made for a lock is 128 random bits, new for every call of
/// [`lock`](super::Mutex::lock).
///
/// `Debug` shows no more than its beginning: a token is worth as much as the lock.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Arc<str>);

impl Token {
    /// 128 random bits, in hexadecimal digits.
    #[expect(clippy::disallowed_methods, reason = "nobody may guess a token")]
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }

    pub(super) fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(token: &str) -> Result<Self, TokenError> {
        match token.len() {
            0 => Err(TokenError::Empty),
            length if length > LONGEST => Err(TokenError::TooLong { length, longest: LONGEST }),
            _ => Ok(Self(token.into())),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let beginning: String = self.0.chars().take(4).collect();
        write!(f, "Token({beginning:?}..)")
    }
}
