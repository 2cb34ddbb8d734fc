//! The body of a response that may be shared, read for everybody.

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::time::timeout;

use super::{
    body::ResponseBody,
    collect::{Collector, End},
    layer::Settings,
};

/// A whole body, with its trailers.
pub(super) type Whole = (Bytes, Option<HeaderMap>);

/// The body is not what was declared.
pub(super) struct Broken;

/// Reads a body that may be shared. The caller's is the first of the two, whole or as much of a stream as it was; the
/// other is for everybody, and `None` if the body is too long, or takes longer than anybody waits for it.
pub(super) async fn read<R: Body<Data = Bytes>>(
    settings: &Settings,
    body: R,
    length: Option<u64>,
) -> (ResponseBody<R>, Result<Option<Whole>, Broken>) {
    if length.max(Some(body.size_hint().lower())) > Some(settings.max_body) {
        return (ResponseBody::untouched(body), Ok(None));
    }
    let mut collector = Collector::new(body);
    match timeout(settings.options.wait_timeout, collector.read(settings.max_body)).await {
        Ok(End::Complete) if length.is_none_or(|length| length == collector.length()) => {
            let (data, trailers) = collector.whole();
            let whole = (data.clone(), trailers.clone());
            (ResponseBody::whole(data, trailers), Ok(Some(whole)))
        }
        Ok(End::Complete) => (collector.replay_broken(None), Err(Broken)),
        Ok(End::Broken(error)) => (collector.replay_broken(Some(error)), Err(Broken)),
        Ok(End::Over) | Err(_) => (collector.replay(), Ok(None)),
    }
}
