//! The work of a flight: calls the inner service, hands the response to the caller whose request it was, and says what
//! others may have of it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header::DATE, response::Parts};
use http_body::Body;
use tokio::{sync::oneshot, time::Instant};
use tower::{BoxError, Service, ServiceExt};

use super::{
    body::ResponseBody,
    extract::mark,
    gate::{Verdict, declared_length, guarded, shareable},
    grpc::unary::Sharing,
    layer::Settings,
    outcome::Outcome,
    policy::Policy,
    record::Stored,
    recording::{Begun, Read, Running, Unfit, begin},
    revalidate::{Previous, cookies, is_error},
    rules::{
        cache_control::ResponseDirectives,
        date,
        freshness::{Asker, Landed, Plan},
        vary::Varies,
    },
    variants::Selection,
};
use crate::{
    group::{Announce, Announcement, Done, Start},
    key::Key,
};

/// What the caller gets whose request led.
pub(super) struct Own<R: Body> {
    pub(super) response: Response<ResponseBody<R>>,
    /// How long it is fresh in the store.
    pub(super) fresh: Duration,
    /// What happened to its request, if that is another thing than that it led.
    pub(super) outcome: Option<Outcome>,
}

/// The caller is told before the work ends, so that whoever learns that it ended finds the response; of a body that still
/// comes, before it is complete, so that it streams. A caller that went away is told in vain.
pub(super) type Tell<R, E> = oneshot::Sender<Result<Own<R>, E>>;

/// The request that leads.
pub(super) struct Leader<'a> {
    pub(super) settings: &'a Settings,
    pub(super) key: &'a Key,
    pub(super) method: Method,
    pub(super) headers: &'a HeaderMap,
    /// How often the work failed before it, in a row.
    pub(super) failures: u32,
}

impl Leader<'_> {
    pub(super) async fn lead<S, B, R>(
        &self,
        start: Start<Stored>,
        inner: S,
        mut request: Request<B>,
        tell: Tell<R, S::Error>,
    ) -> Done<Stored>
    where
        S: Service<Request<B>, Response = Response<R>>,
        R: Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        let terms = &self.settings.terms;
        let mut previous = Previous::of(start.previous, self.headers);
        if let Some(previous) = previous.as_mut().filter(|_| self.confirms()) {
            previous.ask(terms, request.headers_mut());
        }
        mark(&mut request, start.alone.map_or(Outcome::Led, |why| Outcome::Bypassed(why.into())));
        let sent = Instant::now();
        let answer = inner.oneshot(request).await;
        let landed = Landed { now: SystemTime::now(), delay: sent.elapsed() };
        let failed = answer.as_ref().map_or(true, |response| is_error(response.status()));
        if failed && let Some((stored, age)) = previous.as_ref().and_then(|kept| kept.on_error(self.settings.scatter)) {
            let (response, plan) = (self.settings.shared(stored.clone(), Duration::ZERO), stored.plan().clone());
            let fresh = previous.as_ref().map_or(Duration::ZERO, |kept| kept.stored().plan().fresh());
            let _ = tell.send(Ok(Own { response, fresh, outcome: Some(Outcome::Stale { age }) }));
            return self.value(stored, &plan);
        }
        let response = match answer {
            Ok(response) => response,
            // "The cache MUST generate an error response [..] SHOULD generate a 504 (Gateway Timeout)" (RFC 9111 §5.2.2.2).
            Err(_) if terms.policy == Policy::Origin && previous.as_ref().is_some_and(Previous::never_stale) => {
                return self.fails(StatusCode::GATEWAY_TIMEOUT, tell);
            }
            Err(error) => {
                let _ = tell.send(Err(error));
                return Done::Failed(None);
            }
        };
        let (mut head, body) = response.into_parts();
        let replaces = previous.as_ref().is_some_and(Previous::serves_others);
        if let Some(previous) = previous.filter(|previous| previous.is_answered_by(&head)) {
            return self.confirmed(&previous, &head, landed, tell).await;
        }
        if terms.policy == Policy::Origin {
            // "A recipient with a clock that receives a response message without a Date header field MUST record the time
            // it was received and append a corresponding Date header field" (RFC 9110 §6.6.1).
            if !head.headers.contains_key(DATE) {
                head.headers.extend(date::format(landed.now).map(|date| (DATE, date)));
            }
        }
        let verdict = self.verdict(&head, landed);
        let withdraws = replaces && verdict.withdraws();
        match self.judge(head, body, verdict, tell, start.announce).await {
            Done::Unshareable(time) if withdraws => Done::Withdrawn(time),
            // Nothing is there to be taken back.
            Done::Withdrawn(time) if !replaces => Done::Unshareable(time),
            done => done,
        }
    }

    /// A response of the inner service.
    async fn judge<R, E>(
        &self,
        head: Parts,
        body: R,
        Verdict { shared, passing, failed, once }: Verdict,
        tell: Tell<R, E>,
        announce: Announce,
    ) -> Done<Stored>
    where
        R: Body<Data = Bytes>,
        R::Error: Into<BoxError>,
    {
        // The length in a response to HEAD is that of a body which does not come.
        let length = if self.method == Method::HEAD { Ok(None) } else { declared_length(&head) };
        let tell = |head, body, fresh| {
            let response = Response::from_parts(head, body);
            drop(tell.send(Ok(Own { response, fresh, outcome: None })));
        };
        let read = match (shared, length) {
            (Some(plan), Ok(length)) => {
                let targets = &self.settings.terms.targets;
                let stored = Stored::new(&head, plan.clone(), targets, self.select(&head, None), Bytes::new(), None);
                match begin(self.settings, body, length).await {
                    Begun::Ended(body, read) => {
                        let read = self.fit(read, stored, plan);
                        let fresh = if let Ok(Some((_, plan))) = &read { plan.fresh() } else { Duration::ZERO };
                        tell(head, body, fresh);
                        read
                    }
                    Begun::Streams(body, recording) => {
                        // Without a length nobody knows yet whether it will be stored.
                        tell(head, body, if length.is_some() { plan.fresh() } else { Duration::ZERO });
                        // A failure may be the first of two, and is then not for those who wait.
                        let open = self.settings.stream_followers && !failed;
                        let tape = Arc::clone(recording.tape());
                        announce(open.then(|| Arc::new(Running { head: stored.clone(), tape }) as Announcement));
                        let read = recording.finish(|| announce(None)).await;
                        self.fit(read, stored, plan)
                    }
                }
            }
            _ => {
                tell(head, ResponseBody::untouched(body), Duration::ZERO);
                Ok(None)
            }
        };
        let unfit = read.as_ref().err().copied();
        if let Some(Unfit::Refused { scatters }) = unfit {
            return Done::Withdrawn(if scatters { self.pause() } else { Duration::ZERO });
        }
        match read.unwrap_or_default() {
            Some((value, _)) if failed => Done::Failed(Some(value).filter(|_| self.settings.share_errors)),
            Some((value, _)) if passing => Done::Passing(value),
            Some((value, plan)) => self.value(value, &plan),
            None if unfit == Some(Unfit::Broken) => Done::Failed(None),
            // Those who wait are let go; those who come later try together again. That one replica has no room is no
            // reason for the others to scatter.
            None if once || matches!(unfit, Some(Unfit::NoRoom | Unfit::Again)) => Done::Unshareable(Duration::ZERO),
            None => Done::Unshareable(self.pause()),
        }
    }

    /// What others may have, now that all of it is there.
    fn fit(&self, read: Read, mut stored: Stored, mut plan: Plan) -> Result<Option<(Stored, Plan)>, Unfit> {
        let Some((data, trailers)) = read? else { return Ok(None) };
        if let Some(unary) = self.settings.unary {
            let guards = |fields: &HeaderMap| guarded(stored.status(), fields, &ResponseDirectives::of(fields, &[]));
            if trailers.as_ref().is_some_and(guards) {
                return Err(Unfit::Refused { scatters: true });
            }
            match unary.sharing(stored.status(), stored.headers(), &data, trailers.as_ref()) {
                Sharing::Everybody => {}
                Sharing::Negative => {
                    plan = plan.within(self.settings.terms.negative_ttl());
                    stored = stored.replanned(plan.clone());
                }
                Sharing::Once => return Err(Unfit::Refused { scatters: false }),
                Sharing::Caller => return Err(Unfit::Refused { scatters: true }),
                // No such response is shared, be it the second of two: nobody waits for a third.
                Sharing::Failed if self.failures > 0 => return Err(Unfit::Again),
                Sharing::Failed => return Err(Unfit::Broken),
            }
        }
        Ok(Some((stored.with_body(data, trailers), plan)))
    }

    /// The origin says that the response which is kept still holds.
    async fn confirmed<R, E>(&self, previous: &Previous, head: &Parts, landed: Landed, tell: Tell<R, E>) -> Done<Stored>
    where
        R: Body<Data = Bytes>,
    {
        let Some(whole) = previous.confirmed(head, landed.now) else {
            // It would answer every later question in the same way.
            self.settings.engine.forget_within(self.key).await;
            return self.fails(StatusCode::BAD_GATEWAY, tell);
        };
        let verdict = self.verdict(&whole, landed);
        let withdraws = verdict.withdraws();
        let mut cookies = cookies(head).peekable();
        let plan = verdict.shared.filter(|_| cookies.peek().is_none());
        let selection = plan.as_ref().and_then(|_| self.select(&whole, previous.stored().selection()));
        let targets = &self.settings.terms.targets;
        let stored = previous.stored().with(&whole, plan.clone().unwrap_or_default(), targets, selection);
        let mut response = self.settings.shared(stored.clone(), Duration::ZERO);
        response.headers_mut().extend(cookies);
        let fresh = plan.as_ref().map_or(Duration::ZERO, Plan::fresh);
        let _ = tell.send(Ok(Own { response, fresh, outcome: None }));
        match plan {
            Some(_) if verdict.passing => Done::Passing(stored),
            Some(plan) => self.value(stored, &plan),
            None if verdict.once => Done::Unshareable(Duration::ZERO),
            None if withdraws => Done::Withdrawn(self.pause()),
            None => Done::Unshareable(self.pause()),
        }
    }

    /// An answer of the layer's own, in place of one that the inner service does not give.
    fn fails<R: Body<Data = Bytes>, E>(&self, status: StatusCode, tell: Tell<R, E>) -> Done<Stored> {
        let (mut head, ()) = Response::new(()).into_parts();
        head.status = status;
        let stored = Stored::new(&head, Plan::default(), &[], None, Bytes::new(), None);
        let response = stored.clone().into_response();
        let _ = tell.send(Ok(Own { response, fresh: Duration::ZERO, outcome: None }));
        Done::Failed(Some(stored).filter(|_| self.settings.share_errors))
    }

    /// Whether the origin can be asked if what is stored still holds: conditions mean other things with other methods.
    fn confirms(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    fn verdict(&self, head: &Parts, landed: Landed) -> Verdict {
        let credentials = self.settings.identity.has_credentials(self.headers);
        // What flies by another method is a read because the application says so.
        let method = if self.method == Method::HEAD { &Method::HEAD } else { &Method::GET };
        let asker = Asker { method, headers: self.headers, credentials };
        let mut verdict = shareable(&self.settings.terms, asker, head, landed, &*self.settings.share);
        if let Some(plan) = verdict.shared.as_mut().filter(|_| !self.confirms()) {
            plan.validator = false;
        }
        verdict
    }

    /// What selects this response, and for requests like the one that asked; what selected the one that it confirms goes on
    /// to do so.
    fn select(&self, head: &Parts, before: Option<&Selection>) -> Option<Selection> {
        let Varies::On(mut names) = Varies::of(&head.headers) else {
            unreachable!("such a response is shared with nobody")
        };
        let before = before.into_iter().flat_map(|selection| selection.names.iter());
        let more: Vec<_> = before.filter(|name| !names.contains(name)).cloned().collect();
        names.extend(more);
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        (!names.is_empty()).then(|| Selection::of(names.into(), self.headers))
    }

    fn value(&self, value: Stored, plan: &Plan) -> Done<Stored> {
        let (fresh, stale) = (plan.fresh(), plan.stale());
        let keep = self.settings.kept(plan).saturating_sub(fresh.saturating_add(stale));
        Done::Value { value, fresh, stale, keep }
    }

    /// How long a key scatters. Jittered, so that keys which scattered together do not come back together.
    fn pause(&self) -> Duration {
        let tenth = self.settings.scatter / 10;
        let jitter = (tenth * 2).mul_f64(rand::random_range(0.0..=1.0));
        self.settings.scatter.saturating_sub(tenth).saturating_add(jitter)
    }
}

#[cfg(test)]
mod tests;
