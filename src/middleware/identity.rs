//! Who asks: what in a request says so, and what becomes of one that does.

mod caller;
mod cookies;
mod list;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE},
    request::Parts,
};

use self::caller::Partitions;
pub use self::caller::{Caller, IdentityFn, IdentityPolicy, identity_fn};
use super::outcome::Why;

/// What in a request says who asks: [`SingleflightLayer::identity`](super::SingleflightLayer::identity).
///
/// A request that says who asks bypasses, as what is answered may be meant for its sender alone. What says so is a list of
/// fields: those with which clients prove who they are (`Authorization`, `Cookie`, `Proxy-Authorization`, `X-Api-Key`, ...)
/// and those with which proxies assert it (`X-Forwarded-User`, `X-Forwarded-Client-Cert`, `X-Amzn-Oidc-Identity`, ...).
///
/// ```
/// use axum::{Router, body::Body, routing::get};
/// use http::Request;
/// use tower::ServiceExt;
/// use tower_singleflight::{Identity, Outcome, SingleflightLayer, Why, backend::Memory};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let identity = Identity::new().field("x-tenant-user").ignore_cookies(["_ga", "_gid"]);
/// let app = Router::new()
///     .route("/", get(async || "the same for everybody"))
///     .layer(SingleflightLayer::new(Memory::new()).identity(identity));
///
/// for (name, line, outcome) in [
///     ("cookie", "_ga=1; _gid=2", Outcome::Led),
///     ("cookie", "_ga=1; session=3", Outcome::Bypassed(Why::Identity)),
///     ("x-tenant-user", "ada", Outcome::Bypassed(Why::Identity)),
/// ] {
///     let request = Request::get("http://a.test/").header(name, line).body(Body::empty()).unwrap();
///     let response = app.clone().oneshot(request).await.unwrap();
///     assert_eq!(response.extensions().get(), Some(&outcome));
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Identity {
    /// What the application says of single fields. The last word counts.
    fields: Vec<(HeaderName, bool)>,
    /// The cookies that say nothing.
    ignored: Vec<Box<str>>,
    /// Responses say themselves whether they depend on `Authorization`.
    rfc: bool,
    /// Takes the place of all that.
    partitions: Option<Partitions>,
}

impl Identity {
    /// The list as it is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field that says who asks.
    ///
    /// # Panics
    ///
    /// If no field can have this name.
    pub fn field(self, name: &str) -> Self {
        self.says(name, true)
    }

    /// Takes a field off the list. Requests that differ in it share responses: only for what nothing behind the layer reads,
    /// or what the [key](super::SingleflightLayer::key) covers.
    ///
    /// # Panics
    ///
    /// If no field can have this name.
    pub fn except(self, name: &str) -> Self {
        self.says(name, false)
    }

    fn says(mut self, name: &str, says: bool) -> Self {
        let name = HeaderName::try_from(name);
        self.fields.push((name.expect("a field of `identity` must have a name that fields can have"), says));
        self
    }

    /// Adds cookies that do not say who asks. A request with no others may share responses, whatever these hold: only for
    /// what nothing behind the layer reads.
    ///
    /// Names are compared as they are, in upper and lower case. What is not written as RFC 6265 has it (no `=`, an
    /// empty name or none, a value with blanks, commas or anything beyond ASCII) is a cookie that is not ignored, and
    /// so is a field `Cookie` with nothing in it.
    ///
    /// # Panics
    ///
    /// If no cookie can have one of the names.
    pub fn ignore_cookies(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        for name in names {
            let name = name.as_ref();
            assert!(cookies::is_name(name), "`ignore_cookies` takes names of cookies, and {name:?} is none");
            self.ignored.push(name.into());
        }
        self
    }

    /// Treats `Authorization` as shared caches do by RFC 9111 §3.5: the request may share responses, and the response to it
    /// is shared only if it says `public`, `s-maxage` or `must-revalidate`, whatever the [share policy](super::SharePolicy)
    /// says. What says who asks in other ways goes on bypassing.
    ///
    /// Requests with and without `Authorization` fly together. Only for services that mark what they answer: a response to a
    /// request without it may serve one that has it, unless it says `private` or varies on it.
    pub fn rfc(mut self) -> Self {
        self.rfc = true;
        self
    }

    /// Lets `policy` decide alone: neither the list nor anything else that is set here counts any more.
    ///
    /// Callers of one [partition](Caller::Partition) share with each other, on all replicas, and with nobody else. A
    /// partition is a [variant](crate::Key::variant) of the request's key: what invalidates the key, such as a `PUT` by
    /// anybody, invalidates its partitions. What a response says of itself holds there too: one with `private` or
    /// `Set-Cookie` is shared with nobody.
    ///
    /// The store knows a partition by its HMAC-SHA256, keyed with `secret`, and never by the bytes themselves. Replicas
    /// share only with the same secret, and a new one means a cold start; 32 random bytes will do. A secret that can be
    /// guessed lets whoever reads the store try out who is in it.
    ///
    /// ```
    /// use axum::{Router, body::Body, extract::Request, routing::get};
    /// use tower::ServiceExt;
    /// use tower_singleflight::{Caller, Identity, Outcome, SingleflightLayer, backend::Memory, identity_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let by_token = identity_fn(|head| match head.headers.get("authorization") {
    ///     Some(token) => Caller::Partition(token.as_bytes().into()),
    ///     None => Caller::Bypass,
    /// });
    /// let identity = Identity::new().by("the same secret on all replicas", by_token);
    /// let layer = SingleflightLayer::new(Memory::new()).result_ttl(std::time::Duration::from_secs(5)).identity(identity);
    /// let app = Router::new().route("/me", get(async || "a profile")).layer(layer);
    ///
    /// let mut outcomes = Vec::new();
    /// for token in ["Bearer ada", "Bearer bob", "Bearer ada"] {
    ///     let request = Request::get("http://a.test/me").header("authorization", token).body(Body::empty()).unwrap();
    ///     let response = app.clone().oneshot(request).await.unwrap();
    ///     outcomes.push(*response.extensions().get::<Outcome>().unwrap());
    /// }
    /// assert!(matches!(outcomes[..], [Outcome::Led, Outcome::Led, Outcome::Hit { .. }]));
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `secret` is empty.
    pub fn by(mut self, secret: impl AsRef<[u8]>, policy: impl IdentityPolicy) -> Self {
        let secret = secret.as_ref();
        assert!(!secret.is_empty(), "the secret of `identity` must not be empty");
        self.partitions = Some(Partitions::new(secret, policy));
        self
    }

    /// What tells the variant of the key apart under which a request flies; `None` for the key itself, and an error for what
    /// must not share anything.
    pub(super) fn partition(&self, head: &Parts) -> Result<Option<Vec<u8>>, Why> {
        self.partitions.as_ref().map_or(Ok(None), |partitions| partitions.of(head))
    }

    /// Whether this line says who asks.
    pub(super) fn names_caller(&self, name: &HeaderName, line: &HeaderValue) -> bool {
        if self.partitions.is_some() {
            return false;
        }
        let own = self.fields.iter().rfind(|(field, _)| field == name);
        let says = own.map_or_else(|| list::listed(name.as_str()), |(_, says)| *says);
        says && match *name {
            AUTHORIZATION => !self.rfc,
            COOKIE => !cookies::only(&self.ignored, line.as_bytes()),
            _ => true,
        }
    }

    /// Whether the response to a request with these fields is meant for its sender alone, unless it says otherwise.
    pub(super) fn has_credentials(&self, asked: &HeaderMap) -> bool {
        self.rfc && self.partitions.is_none() && asked.contains_key(AUTHORIZATION)
    }
}

#[cfg(test)]
mod tests;
