//! What a handler learns of the flight that its request leads.

use http::Request;

use super::outcome::Outcome;

/// Tells the inner service what is known of `request` by the time it is called.
#[cfg(feature = "axum")]
pub(super) fn mark<B>(request: &mut Request<B>, outcome: Outcome) {
    request.extensions_mut().insert(outcome);
}

#[cfg(not(feature = "axum"))]
pub(super) fn mark<B>(_: &mut Request<B>, _: Outcome) {}

/// What is known of the request when the handler is called: [`Led`](Outcome::Led) if others may get its response,
/// [`Bypassed`](Outcome::Bypassed) if it was to fly and went by itself, and `None` if it never was part of a flight. What
/// became of it in the end, the response tells.
///
/// ```
/// use axum::{Router, body::Body, extract::Request, routing::get};
/// use tower::ServiceExt;
/// use tower_singleflight::{Outcome, SingleflightLayer, backend::Memory};
///
/// async fn report(outcome: Option<Outcome>) -> String {
///     outcome.map_or("for you alone".into(), |outcome| outcome.to_string())
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let app = Router::new().route("/report", get(report)).layer(SingleflightLayer::new(Memory::new()));
/// for (name, said) in [("accept", "led"), ("authorization", "for you alone")] {
///     let request = Request::get("http://a.test/report").header(name, "x").body(Body::empty()).unwrap();
///     let response = app.clone().oneshot(request).await.unwrap();
///     assert_eq!(axum::body::to_bytes(response.into_body(), 100).await.unwrap(), said);
/// }
/// # }
/// ```
#[cfg(feature = "axum")]
impl<S: Send + Sync> axum::extract::OptionalFromRequestParts<S> for Outcome {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        head: &mut http::request::Parts,
        _: &S,
    ) -> Result<Option<Self>, std::convert::Infallible> {
        Ok(head.extensions.get().copied())
    }
}
