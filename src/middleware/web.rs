//! What is set for requests over HTTP alone: a gRPC call has neither ranges nor conditions, and its method changes nothing.

use std::sync::Arc;

use super::{handle::Handle, key::KeyExtractor, layer::SingleflightLayer, mode::Web};

/// For HTTP.
impl<M: Web> SingleflightLayer<M> {
    /// Whether requests on the same replica follow a response while its body still comes, instead of waiting until it is
    /// complete. Off by default.
    ///
    /// They get it from its beginning, each at its own pace, and so do those who come while it runs. The price: who follows
    /// shares the fate of the response. If its body breaks off, turns out longer than [`max_body`](Self::max_body), pauses
    /// for longer than [`body_idle_timeout`](Self::body_idle_timeout), or takes longer than
    /// [`wait_timeout`](Self::wait_timeout) altogether, then the bodies of those who follow end in an error, where those who
    /// wait would be released to ask for themselves. A server error is not followed: it may be the first of two.
    ///
    /// The setting of the layer whose request leads counts.
    pub fn stream_followers(self, on: bool) -> Self {
        self.set(|settings| settings.stream_followers = on)
    }

    /// Which requests are the same. By default those with equal [`RequestKey`](super::RequestKey)s.
    pub fn key(self, extractor: impl KeyExtractor) -> Self {
        self.set(|settings| settings.key = Arc::new(extractor))
    }

    /// Whether a request that may change its target (`POST`, `PUT`, `PATCH`, `DELETE`, and methods that nobody knows)
    /// invalidates it once it has succeeded. On by default.
    ///
    /// Before the response goes out, what is stored of the target is forgotten, fleet-wide and with all its variants,
    /// and a read that is still in the air neither stores nor serves those who come later. So is what the response
    /// names in `Location` and `Content-Location`, if it has the same authority, and what the application [knows
    /// besides](Self::also_invalidate). It takes one round of exchanges with the store, and no longer than its budget:
    /// what a store that is away keeps, lives on until its TTL.
    ///
    /// A request that ends in an error of the inner service, or whose client leaves, may have changed its target all the
    /// same, and counts.
    ///
    /// What is forgotten is what reads with the fields of this request get. An [extractor](Self::key) that adds fields to
    /// the key makes other keys of requests with other fields: forget those with the [handle](Self::handle).
    pub fn invalidate_on_change(self, on: bool) -> Self {
        self.set(|settings| settings.invalidates = on)
    }

    /// Whether `If-None-Match` and `If-Modified-Since` are answered on the way out. On by default; off, a request with
    /// one of them goes to the inner service by itself.
    pub fn answer_conditions(self, on: bool) -> Self {
        self.set(|settings| settings.conditions = on)
    }

    /// Whether a `Range` is cut out of what is stored. On by default; off, a request with one goes to the inner service by
    /// itself.
    pub fn answer_ranges(self, on: bool) -> Self {
        self.set(|settings| settings.ranges = on)
    }

    /// Whether the second 5xx in a row is given to all who wait. On by default; off, each of them calls the inner service
    /// himself, one at a time per replica.
    pub fn share_errors(self, on: bool) -> Self {
        self.set(|settings| settings.share_errors = on)
    }

    /// Invalidates what this layer has stored, for the application.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.settings))
    }
}
