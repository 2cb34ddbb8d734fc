//! Callers as the application knows them, and the names under which the store does.

use std::{fmt, sync::Arc};

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::request::Parts;
use sha2::Sha256;

use crate::middleware::outcome::Why;

/// Who sends a request, as far as that decides with whom it shares: what an [`IdentityPolicy`] answers.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// Somebody who gets what everybody gets.
    Anybody,
    /// One of those who share with each other and with nobody else, told apart by any bytes: a user, a tenant, a role.
    ///
    /// They may be a secret, such as a token: the store knows them by a keyed hash alone.
    Partition(Vec<u8>),
    /// Somebody whose responses are shared with nobody: the request bypasses.
    Bypass,
}

impl fmt::Debug for Caller {
    /// Does not show what may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anybody => "Anybody",
            Self::Partition(_) => "Partition(..)",
            Self::Bypass => "Bypass",
        })
    }
}

/// Decides who asks: [`Identity::by`](super::Identity::by).
///
/// See [`identity_fn`] for closures.
pub trait IdentityPolicy: Send + Sync + 'static {
    /// Who sends a request. What an earlier layer has found out may stand in the extensions.
    fn caller(&self, head: &Parts) -> Caller;
}

/// An [`IdentityPolicy`] from a closure.
///
/// ```
/// use http::Request;
/// use tower_singleflight::{Caller, IdentityPolicy, identity_fn};
///
/// /// What the authentication in front of the layer leaves behind.
/// #[derive(Clone)]
/// struct User(u64);
///
/// let by_user = identity_fn(|head| match head.extensions.get() {
///     Some(User(id)) => Caller::Partition(id.to_be_bytes().into()),
///     None => Caller::Anybody,
/// });
///
/// let (mut head, ()) = Request::new(()).into_parts();
/// assert_eq!(by_user.caller(&head), Caller::Anybody);
/// head.extensions.insert(User(7));
/// assert_eq!(by_user.caller(&head), Caller::Partition(vec![0, 0, 0, 0, 0, 0, 0, 7]));
/// ```
pub fn identity_fn<F>(caller: F) -> IdentityFn<F>
where
    F: Fn(&Parts) -> Caller + Send + Sync + 'static,
{
    IdentityFn(caller)
}

/// The policy that [`identity_fn`] makes.
#[derive(Clone, Copy)]
pub struct IdentityFn<F>(F);

impl<F> IdentityPolicy for IdentityFn<F>
where
    F: Fn(&Parts) -> Caller + Send + Sync + 'static,
{
    fn caller(&self, head: &Parts) -> Caller {
        (self.0)(head)
    }
}

impl<F> fmt::Debug for IdentityFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityFn").finish_non_exhaustive()
    }
}

/// Stands before the hash, so that no other variant of a key is called like a partition: neither `HEAD` nor a digest of what
/// `Vary` names.
const DOMAIN: &[u8] = b"partition ";

/// A policy, and how its partitions are called.
#[derive(Clone)]
pub(super) struct Partitions {
    policy: Arc<dyn IdentityPolicy>,
    /// Keyed with the secret.
    names: Hmac<Sha256>,
}

impl Partitions {
    pub(super) fn new(secret: &[u8], policy: impl IdentityPolicy) -> Self {
        let names = Hmac::new_from_slice(secret).expect("a secret of any length will do");
        Self { policy: Arc::new(policy), names }
    }

    /// What tells the caller's variant of a key from the others; `None` for the key itself.
    pub(super) fn of(&self, head: &Parts) -> Result<Option<Vec<u8>>, Why> {
        match self.policy.caller(head) {
            Caller::Anybody => Ok(None),
            Caller::Partition(who) => {
                let name = self.names.clone().chain_update(who).finalize();
                Ok(Some([DOMAIN, &name.into_bytes()].concat()))
            }
            Caller::Bypass => Err(Why::Identity),
        }
    }
}

impl fmt::Debug for Partitions {
    /// Does not show the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partitions").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn name(secret: &str, who: &str) -> Vec<u8> {
        let who = who.to_owned();
        let partitions =
            Partitions::new(secret.as_bytes(), identity_fn(move |_| Caller::Partition(who.clone().into())));
        partitions.of(&Request::new(()).into_parts().0).unwrap().unwrap()
    }

    /// The second test case of RFC 4231.
    #[test]
    fn partitions_are_called_by_a_keyed_hash() {
        let name = name("Jefe", "what do ya want for nothing?");
        let hash = name.strip_prefix(DOMAIN).unwrap();
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn partitions_and_secrets_are_apart() {
        let names = [name("a", "ada"), name("a", "bob"), name("b", "ada"), name("a", ""), name("aa", "da")];
        for (at, one) in names.iter().enumerate() {
            assert!(!names[at + 1..].contains(one), "{at}");
        }
        assert_eq!(names[0], name("a", "ada"));
    }

    #[test]
    fn nothing_shows_what_may_be_secret() {
        let partitions = Partitions::new(b"hush", identity_fn(|_| Caller::Anybody));
        assert_eq!(format!("{partitions:?}"), "Partitions { .. }");
        assert_eq!(format!("{:?}", Caller::Partition(b"token".into())), "Partition(..)");
    }
}
