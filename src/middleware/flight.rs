//! One request that flies: the way of its own response past the engine, and of a shared one out of it.

use std::{
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::AGE, response::Parts};
use http_body::Body;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use tower::{BoxError, Service, ServiceExt};

use super::{
    asked::Asked,
    body::ResponseBody,
    future::signed,
    layer::Settings,
    outcome::{Outcome, Why},
    record::Stored,
    recording::{Begun, Running, begin},
    rules::vary::Varies,
    share::{self, declared_length, shareable},
    tape::Reader,
    variants::Selection,
};
use crate::{
    group::{Announce, Announcement, Answer, Done, Flown, Options, Source, Work},
    key::Key,
};

/// What the inner service answered, for the caller whose request it was, and how long the answer is kept.
type Own<R, E> = Result<(Response<ResponseBody<R>>, Duration), E>;

/// The way of one request.
///
/// The engine sees records alone. The response to the caller's own request takes a private channel instead: it keeps its
/// extensions, its body may be a stream that nobody can share, its error need not be `Clone`, and what the engine stores
/// is not what decides what the caller gets.
pub(super) async fn fly<S, B, R>(
    settings: Arc<Settings>,
    base: Key,
    asked: Asked,
    inner: S,
    request: Request<B>,
) -> Result<Response<ResponseBody<R>>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError> + Send + 'static,
{
    let start = Instant::now();
    let mut waiting = (inner, request);
    let sign = |(response, fresh), outcome| signed(response, outcome, fresh, settings.cache_status.as_ref());
    let own = |own: Own<R, S::Error>, outcome| own.map(|own| asked.confirm(sign(own, outcome), SystemTime::now()));
    if asked.looks_first() {
        if let Some((stored, source)) = look(&settings, &base, waiting.1.headers()).await
            && let Some(response) = asked.of_stored(shared(&settings, stored, source), SystemTime::now())
        {
            return Ok(response);
        }
        if asked.only_if_cached() {
            let mut response = Response::new(ResponseBody::default());
            *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            return Ok(sign((response, Duration::ZERO), Outcome::Bypassed(Why::OnlyIfCached)));
        }
    }
    // A response to HEAD goes with what is known of its target, and never satisfies a GET.
    let is_head = *waiting.1.method() == Method::HEAD;
    let base = if is_head { base.variant("HEAD") } else { base };
    let mut why = if asked.has_range() { Why::Range } else { Why::Variants };
    let rounds = if asked.has_range() { 0 } else { ROUNDS };
    // Once to learn what the response varies on, and once under the key that this makes. More only if that changes meanwhile.
    for _ in 0..rounds {
        let (now, life) = (Instant::now(), settings.variant_life());
        let Some(key) = settings.variants.locate(&base, waiting.1.headers(), now, life) else { break };
        let call = Arc::new(Call::new(waiting.0, waiting.1));
        let (tell, mut told) = oneshot::channel::<Own<R, S::Error>>();
        let work: Work<Stored> = {
            let (settings, call) = (Arc::clone(&settings), Arc::clone(&call));
            Box::new(move |announce| {
                Box::pin(async move {
                    match call.start() {
                        Some((inner, request, asked)) => lead(&settings, inner, request, &asked, tell, announce).await,
                        // It went on to another key.
                        None => Done::Unshareable(Duration::ZERO),
                    }
                })
            })
        };
        let wait_timeout = settings.options.wait_timeout.saturating_sub(start.elapsed());
        let options = Options { wait_timeout, ..settings.options.clone() };
        let (answer, seat) = settings.engine.fly(key.clone(), work, &options).await;
        match answer {
            Answer::Value(stored, source) => {
                if let Some(selection) = stored.selection() {
                    settings.variants.learn(&base, &key, selection);
                }
                if let (Source::Led | Source::Alone(_), Ok(response)) = (source, told.try_recv()) {
                    return own(response, source.into());
                }
                if call.headers(|headers| stored.serves(headers)) == Some(true) {
                    return Ok(asked.confirm(shared(&settings, stored, source), SystemTime::now()));
                }
                match call.reclaim() {
                    Some(reclaimed) => waiting = reclaimed,
                    // It refreshes a stale record, which turned out to be another variant's.
                    None => return own(told.await.expect("work that runs tells its caller"), Outcome::Led),
                }
            }
            Answer::Runs(alone) => {
                let outcome = alone.map_or(Outcome::Led, |why| Outcome::Bypassed(why.into()));
                let response = own(told.await.expect("work that runs has told its caller"), outcome)?;
                return Ok(response.map(|body| body.seated(seat)));
            }
            Answer::Announced(running) => {
                let running = running.downcast::<Running>().expect("the work of a request announces nothing else");
                if let Some(selection) = running.head.selection() {
                    settings.variants.learn(&base, &key, selection);
                }
                if call.headers(|headers| running.head.serves(headers)) == Some(true) {
                    let response = shared::<R>(&settings, running.head.clone(), Source::JoinedHere);
                    let body = ResponseBody::recorded(Reader::new(&running.tape), None).seated(seat);
                    return Ok(asked.confirm(response.map(|_| body), SystemTime::now()));
                }
                waiting = call.reclaim().expect("a caller whose work has not begun still has its request");
            }
            Answer::Ran => return own(told.await.expect("work that ran has told its caller"), Outcome::Led),
            Answer::Panicked(panic) => resume_unwind(panic),
            Answer::Alone(_, alone) | Answer::Refused(alone) => {
                why = alone.into();
                waiting = call.reclaim().expect("a caller that goes alone still has its request");
                break;
            }
        }
    }
    let (inner, mut request) = waiting;
    asked.restore(request.headers_mut());
    let response = inner.oneshot(request).await?.map(ResponseBody::untouched);
    Ok(sign((response, Duration::ZERO), Outcome::Bypassed(why)))
}

/// What is stored for a GET with these fields, within the budget for the store.
async fn look(settings: &Settings, base: &Key, headers: &HeaderMap) -> Option<(Stored, Source)> {
    let find = async {
        for _ in 0..ROUNDS {
            let key = settings.variants.locate(base, headers, Instant::now(), settings.variant_life())?;
            let Flown { value, source } = settings.engine.peek(&key).await.ok()??;
            if value.serves(headers) {
                return Some((value, source));
            }
            settings.variants.learn(base, &key, value.selection()?);
        }
        None
    };
    timeout(settings.engine.budget(), find).await.ok().flatten()
}

/// How often a request looks for its variant.
const ROUNDS: usize = 3;

/// A request and who answers it. It lies where both can take it, rather than in the work: a caller who goes alone needs the
/// response as it comes, and would otherwise have to buffer a body that nobody will share.
struct Call<S, B>(Mutex<Stage<S, B>>);

#[expect(clippy::large_enum_variant, reason = "it lies behind a pointer already, once per request")]
enum Stage<S, B> {
    Waiting(S, Request<B>),
    /// What it asked remains.
    Started(Arc<HeaderMap>),
    Reclaimed,
}

impl<S, B> Call<S, B> {
    fn new(inner: S, request: Request<B>) -> Self {
        Self(Mutex::new(Stage::Waiting(inner, request)))
    }

    fn stage(&self) -> MutexGuard<'_, Stage<S, B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn headers<T>(&self, read: impl FnOnce(&HeaderMap) -> T) -> Option<T> {
        match &*self.stage() {
            Stage::Waiting(_, request) => Some(read(request.headers())),
            Stage::Started(headers) => Some(read(headers)),
            Stage::Reclaimed => None,
        }
    }

    /// For the work, unless the caller was faster.
    fn start(&self) -> Option<(S, Request<B>, Arc<HeaderMap>)> {
        let mut stage = self.stage();
        let Stage::Waiting(_, request) = &*stage else { return None };
        let asked = Arc::new(request.headers().clone());
        match std::mem::replace(&mut *stage, Stage::Started(Arc::clone(&asked))) {
            Stage::Waiting(inner, request) => Some((inner, request, asked)),
            Stage::Started(_) | Stage::Reclaimed => unreachable!("it was waiting under this lock"),
        }
    }

    /// For the caller, unless the work was faster.
    fn reclaim(&self) -> Option<(S, Request<B>)> {
        let mut stage = self.stage();
        match std::mem::replace(&mut *stage, Stage::Reclaimed) {
            Stage::Waiting(inner, request) => Some((inner, request)),
            other => {
                *stage = other;
                None
            }
        }
    }
}

/// The response to one caller, made of the record of another's.
fn shared<R: Body<Data = Bytes>>(settings: &Settings, stored: Stored, source: Source) -> Response<ResponseBody<R>> {
    let fresh = stored.fresh();
    let mut response = stored.into_response();
    if let Source::Hit { age } | Source::Stale { age } = source {
        let headers = response.headers_mut();
        let before = share::age(headers);
        headers.insert(AGE, HeaderValue::from(before.saturating_add(age.as_secs())));
    }
    signed(response, source.into(), fresh, settings.cache_status.as_ref())
}

/// Calls the inner service, hands the response to the caller, and says what others may have of it.
///
/// The caller is told before the work ends, so that whoever learns that it ended finds the response; of a body that still
/// comes, before it is complete, so that it streams. A caller that went away is told in vain.
async fn lead<S, B, R>(
    settings: &Settings,
    inner: S,
    request: Request<B>,
    asked: &HeaderMap,
    tell: oneshot::Sender<Own<R, S::Error>>,
    announce: Announce,
) -> Done<Stored>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    let is_head = request.method() == Method::HEAD;
    let (head, body) = match inner.oneshot(request).await {
        Ok(response) => response.into_parts(),
        Err(error) => {
            let _ = tell.send(Err(error));
            return Done::Failed(None);
        }
    };
    let verdict = shareable(&head, settings.usual, &*settings.share);
    // The length in a response to HEAD is that of a body which does not come.
    let length = if is_head { Ok(None) } else { declared_length(&head) };
    let tell = |head, body, fresh| drop(tell.send(Ok((Response::from_parts(head, body), fresh))));
    let read = match (verdict.shared, length) {
        (Some(lifetimes), Ok(length)) => {
            let stored = Stored::new(&head, lifetimes.fresh, select(&head, asked), Bytes::new(), None);
            let read = match begin(settings, body, length).await {
                Begun::Ended(body, read) => {
                    let fresh = if let Ok(Some(_)) = read { lifetimes.fresh } else { Duration::ZERO };
                    tell(head, body, fresh);
                    read
                }
                Begun::Streams(body, recording) => {
                    tell(head, body, lifetimes.fresh);
                    // A failure may be the first of two, and is then not for those who wait.
                    let open = settings.stream_followers && !verdict.failed;
                    let tape = Arc::clone(recording.tape());
                    announce(open.then(|| Arc::new(Running { head: stored.clone(), tape }) as Announcement));
                    recording.finish().await
                }
            };
            read.map(|whole| whole.map(|(data, trailers)| (lifetimes, stored.with_body(data, trailers))))
        }
        _ => {
            tell(head, ResponseBody::untouched(body), Duration::ZERO);
            Ok(None)
        }
    };
    let broken = read.is_err();
    let record = read.unwrap_or_default();
    match record {
        Some((_, value)) if verdict.failed => Done::Failed(Some(value)),
        Some((_, value)) if verdict.passing => Done::Passing(value),
        Some((lifetimes, value)) => Done::Value { value, fresh: lifetimes.fresh, stale: lifetimes.stale },
        None if broken => Done::Failed(None),
        // Those who wait are let go; those who come later try together again.
        None if verdict.once => Done::Unshareable(Duration::ZERO),
        // Jittered, so that keys which scattered together do not come back together.
        None => {
            let tenth = settings.scatter / 10;
            let jitter = (tenth * 2).mul_f64(rand::random_range(0.0..=1.0));
            Done::Unshareable(settings.scatter.saturating_sub(tenth).saturating_add(jitter))
        }
    }
}

/// What selects this response, and for requests like the one that asked.
fn select(head: &Parts, asked: &HeaderMap) -> Option<Selection> {
    match Varies::of(&head.headers) {
        Varies::On(names) if names.is_empty() => None,
        Varies::On(names) => Some(Selection::of(names.into(), asked)),
        Varies::OnEverything => unreachable!("such a response is shared with nobody"),
    }
}

#[cfg(test)]
mod tests;
