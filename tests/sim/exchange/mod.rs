//! Random requests and responses through a fleet of two replicas, over the same network as groups have: nobody ever receives
//! what is not meant for him, whatever the interleaving.
//!
//! What is meant for whom is restated in [`oracle`], in the words of the rules and without the crate's code. Who a response
//! was made for stands in the [`origin`]'s books.

mod oracle;
mod origin;

use std::{ops::AddAssign, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Empty};
use tokio::time::{sleep, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_singleflight::{Identity, Outcome, Policy, SingleflightLayer, Why, backend::Memory, middleware::Handle};

use self::{
    oracle::{Got, check},
    origin::Origin,
};
use crate::net::{Net, Remote};

const REQUESTS: u64 = 60;

/// The route's own lifetimes.
const TTL: Duration = Duration::from_millis(300);
const WARMUP: Duration = Duration::from_millis(200);

/// What a run is made of.
#[derive(Debug)]
pub struct Plan {
    pub policy: Policy,
    /// Responses say themselves whether they depend on `Authorization`.
    pub rfc: bool,
    pub faults: bool,
}

/// What happened, to see that a run is not empty.
#[derive(Debug, Default)]
pub struct Tally {
    executions: u64,
    own: u64,
    joined: u64,
    hits: u64,
    stale: u64,
    unshareable: u64,
    not_modified: u64,
    parts: u64,
    heads: u64,
    confirmed: u64,
    changes: u64,
    left: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.executions += other.executions;
        self.own += other.own;
        self.joined += other.joined;
        self.hits += other.hits;
        self.stale += other.stale;
        self.unshareable += other.unshareable;
        self.not_modified += other.not_modified;
        self.parts += other.parts;
        self.heads += other.heads;
        self.confirmed += other.confirmed;
        self.changes += other.changes;
        self.left += other.left;
    }
}

impl Tally {
    pub fn assert_not_empty(&self, plan: &Plan) {
        let must = [
            (true, self.own, "got his own"),
            (true, self.joined, "joined"),
            (true, self.hits, "found it stored"),
            (true, self.stale, "found it stale"),
            (true, self.unshareable, "was let go"),
            (true, self.not_modified, "had it already"),
            (true, self.parts, "got a part of what was stored"),
            (true, self.heads, "got the head of a stored GET"),
            (plan.policy == Policy::Origin, self.confirmed, "had it confirmed"),
            (true, self.changes, "changed anything"),
            (true, self.left, "left"),
        ];
        for (expected, number, what) in must {
            assert!(!expected || number > 0, "nobody {what}: {self:?}");
        }
    }

    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Led => self.own += 1,
            Outcome::Joined { .. } => self.joined += 1,
            Outcome::Hit { .. } => self.hits += 1,
            Outcome::Stale { .. } => self.stale += 1,
            Outcome::Bypassed(Why::Unshareable) => self.unshareable += 1,
            _ => {}
        }
    }
}

/// A request, as its client knows it.
#[derive(Clone, Debug)]
pub struct Asked {
    id: u64,
    method: Method,
    path: usize,
    fields: Vec<(&'static str, String)>,
    /// When, in milliseconds.
    at: u64,
    /// The oldest version of its target that it may see: the change to that one was through when it asked.
    floor: u64,
}

impl Asked {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, line)| &**line)
    }
}

const PATHS: [&str; 2] = ["http://a.test/one", "http://a.test/two"];

/// A client asks for something out of a small alphabet.
fn any_request(net: &Net, origin: &Origin, id: u64) -> Asked {
    let mut fields = Vec::new();
    let mut perhaps = |one_in: u64, name, lines: &[&str]| {
        if net.below(one_in) == 0 {
            fields.push((name, lines[net.below(lines.len() as u64) as usize].to_owned()));
        }
    };
    perhaps(1, "x-id", &[&id.to_string()]);
    perhaps(2, "accept-language", &["de", "en"]);
    perhaps(6, "authorization", &["Bearer ada", "Bearer bob"]);
    perhaps(12, "cookie", &["sid=1", "sid=2"]);
    perhaps(10, "range", &["bytes=2-5"]);
    let known = origin.some_tag(net);
    perhaps(8, "if-none-match", &["*", known.as_deref().unwrap_or("\"none\"")]);
    perhaps(8, "cache-control", &["no-store", "only-if-cached", "no-cache", "max-age=0"]);
    let method = match net.below(16) {
        0 => Method::PUT,
        1 | 2 => Method::HEAD,
        _ => Method::GET,
    };
    let path = usize::from(net.below(4) == 0);
    Asked { id, method, path, fields, at: origin.now(), floor: origin.floor(path) }
}

/// One run. Panics if something does not hold.
pub async fn run(plan: &Plan, seed: u64) -> Tally {
    let net = Net::new(seed, plan.faults, false);
    let (store, origin) = (Memory::new(), Arc::new(Origin::new(&net)));
    let identity = || if plan.rfc { Identity::new().rfc() } else { Identity::new() };
    let layers = [(); 2].map(|()| {
        SingleflightLayer::new(Remote::new(&store, &net))
            .policy(plan.policy)
            .result_ttl(TTL)
            .warmup_window(WARMUP)
            .identity(identity())
            .lock_ttl(Duration::from_millis(500))
            .wait_timeout(Duration::from_secs(3))
            // A pause would keep requests apart that could be mixed up, and its length is random.
            .scatter(Duration::ZERO)
    });
    let mut clients = Vec::new();
    for id in 0..REQUESTS {
        // In bursts.
        let pause = if net.below(3) == 0 { 400 } else { 20 };
        sleep(Duration::from_millis(net.below(pause))).await;
        let layer = layers[net.below(2) as usize].clone();
        let asked = any_request(&net, &origin, id);
        let patience = (net.below(10) == 0).then(|| Duration::from_millis(net.below(150)));
        clients.push((asked.clone(), tokio::spawn(client(layer, Arc::clone(&origin), asked, patience))));
        if net.below(30) == 0 {
            let handle = layers[0].handle();
            tokio::spawn(application(handle, Arc::clone(&origin), net.below(2) as usize));
        }
    }
    let mut tally = Tally::default();
    let mut answers = Vec::new();
    for (asked, client) in clients {
        let got = timeout(Duration::from_secs(120), client).await.expect("everybody ends").expect("nobody panics");
        answers.push((asked, got));
    }
    net.heal();
    let books = origin.close();
    for (asked, got) in &answers {
        match got {
            Some(got) => check(plan, &books, asked, got, &mut tally),
            None => tally.left += 1,
        }
    }
    tally.executions += books.len() as u64;
    tally
}

/// Sends a request, and leaves if that takes too long.
async fn client(
    layer: SingleflightLayer,
    origin: Arc<Origin>,
    asked: Asked,
    patience: Option<Duration>,
) -> Option<Got> {
    let request = Request::builder().method(asked.method.clone()).uri(PATHS[asked.path]);
    let request = asked.fields.iter().fold(request, |request, (name, line)| request.header(*name, line));
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let handler = {
        let (origin, asked) = (Arc::clone(&origin), asked.clone());
        service_fn(move |request: Request<Empty<Bytes>>| {
            let (origin, asked) = (Arc::clone(&origin), asked.clone());
            async move { origin.answer(asked, request.headers()).await }
        })
    };
    let call = async {
        let response = match layer.layer(handler).oneshot(request).await {
            Ok(response) => response,
            Err(of) => return Got::Error(of),
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("no body breaks off").to_bytes();
        Got::Response {
            status: head.status.as_u16(),
            outcome: *head.extensions.get().expect("every response says what happened"),
            headers: head.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    };
    let got = match patience {
        Some(patience) => timeout(patience, call).await.ok()?,
        None => call.await,
    };
    // Before anything else can be asked.
    if asked.method == Method::PUT && matches!(got, Got::Response { status: 200, .. }) {
        origin.is_through(asked.path, asked.id);
    }
    Some(got)
}

/// The application changes a target itself, and says so.
async fn application(handle: Handle, origin: Arc<Origin>, path: usize) {
    let version = origin.change(path);
    if handle.invalidate_uri(&PATHS[path].parse().unwrap()).await.is_ok() {
        origin.is_through_at(path, version);
    }
}

fn named<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|line| line.to_str().unwrap())
}
