//! What stands behind the layer: answers at random out of a small alphabet, and keeps books of what it answered to whom.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};

use super::{Asked, named};
use crate::net::Net;

/// One execution: for whom, of which version of the target, and what came of it.
#[derive(Clone, Debug)]
pub struct Made {
    pub asked: Asked,
    pub version: u64,
    /// Zero for an error.
    pub status: u16,
    pub cache_control: &'static str,
    pub vary: &'static str,
    pub cookie: bool,
    pub body: String,
    /// When it was there, in milliseconds; and then, when it was last said to hold.
    pub landed: u64,
    pub held: u64,
    /// The execution that this one, a 304, is about.
    pub confirms: Option<usize>,
}

const STATUSES: [u16; 16] = [200, 200, 200, 200, 200, 200, 200, 200, 200, 200, 404, 302, 500, 400, 206, 403];

const CACHE_CONTROL: [&str; 20] = [
    "",
    "",
    "",
    "",
    "max-age=1",
    "max-age=1",
    "max-age=1",
    "max-age=1, stale-while-revalidate=2",
    "max-age=1, stale-while-revalidate=2",
    "s-maxage=1",
    "public, max-age=1",
    "max-age=1, must-revalidate",
    "max-age=0",
    "max-age=2, private=\"x-user\"",
    "max-age=2, no-cache=\"x-user\"",
    "private, max-age=2",
    "private",
    "no-store",
    "max-age=2, no-store",
    "no-cache, max-age=2",
];

const VARY: [&str; 10] = ["", "", "", "", "", "accept-language", "accept-language", "accept-language", "x-id", "*"];

pub struct Origin {
    net: Arc<Net>,
    start: Instant,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    made: Vec<Made>,
    versions: [u64; 2],
    floors: [u64; 2],
}

impl Origin {
    pub fn new(net: &Arc<Net>) -> Self {
        Self { net: Arc::clone(net), start: Instant::now(), books: Mutex::default() }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub fn close(&self) -> Vec<Made> {
        self.books().made.clone()
    }

    pub fn floor(&self, path: usize) -> u64 {
        self.books().floors[path]
    }

    /// The tag of one of the last responses.
    pub fn some_tag(&self, net: &Net) -> Option<String> {
        let most = self.books().made.len();
        (most > 0).then(|| tag(most - 1 - (net.below(4) as usize).min(most - 1)))
    }

    /// Changes a target.
    pub fn change(&self, path: usize) -> u64 {
        let mut books = self.books();
        books.versions[path] += 1;
        books.versions[path]
    }

    /// Whoever asks from now on must not see what was there before this version.
    pub fn is_through_at(&self, path: usize, version: u64) {
        let floor = &mut self.books().floors[path];
        *floor = version.max(*floor);
    }

    /// The same, for the change that a request made.
    pub fn is_through(&self, path: usize, id: u64) {
        let version = self.books().made.iter().find(|made| made.asked.id == id).expect("it was executed").version;
        self.is_through_at(path, version);
    }

    fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.net.below(from.len() as u64) as usize]
    }

    /// The handler. `asked` is the client's own request, and `seen` what is left of its fields.
    pub async fn answer(&self, asked: Asked, seen: &HeaderMap) -> Result<Response<Full<Bytes>>, u64> {
        let (path, id) = (asked.path, asked.id);
        let version = self.books().versions[path];
        sleep(Duration::from_millis(self.net.below(150))).await;
        let fails = self.net.below(25) == 0;
        let mut made = Made {
            version,
            status: if fails { 0 } else { self.pick(&STATUSES) },
            cache_control: self.pick(&CACHE_CONTROL),
            vary: self.pick(&VARY),
            cookie: self.net.below(10) == 0,
            body: String::new(),
            landed: self.now(),
            held: self.now(),
            confirms: None,
            asked,
        };
        if made.asked.method == Method::PUT {
            made.status = self.pick(&[200, 200, 200, 500]);
            if made.status == 200 {
                made.version = self.change(path);
            }
        }
        let mut books = self.books();
        assert!(books.made.iter().all(|made| made.asked.id != id), "a request was executed twice");
        let number = books.made.len();
        made.body = format!("{number:06} for {id}, version {version}");
        if let Some(held) = self.holds(&books.made, &made, seen) {
            (made.status, made.confirms) = (304, Some(held));
            books.made[held].held = made.landed;
        }
        books.made.push(made.clone());
        drop(books);
        if fails { Err(id) } else { Ok(respond(number, &made)) }
    }

    /// What the condition in a request is about, if that is still right.
    fn holds(&self, all: &[Made], made: &Made, seen: &HeaderMap) -> Option<usize> {
        let number = named(seen, "if-none-match")?.strip_prefix("\"made-")?.strip_suffix('"')?.parse().ok()?;
        let known: &Made = all.get(number)?;
        let plain = |asked: &Asked| ["authorization", "cookie"].iter().all(|name| asked.field(name).is_none());
        let same = |name: &str| known.asked.field(name) == made.asked.field(name);
        let right = known.status == 200 && made.status == 200 && made.asked.method == Method::GET;
        let holds = right
            && (known.version, known.asked.path) == (made.version, made.asked.path)
            && plain(&known.asked)
            && plain(&made.asked)
            && same("accept-language");
        holds.then_some(number)
    }
}

pub fn tag(number: usize) -> String {
    format!("\"made-{number}\"")
}

/// Where a response says which one it is: a field that a 304 carries too.
pub fn number(headers: &HeaderMap) -> Option<usize> {
    named(headers, "content-location")?.strip_prefix("/made/")?.parse().ok()
}

fn respond(number: usize, made: &Made) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(made.status);
    if made.confirms.is_some() {
        // Nothing that would take the place of what is stored, but for the tag by which it is known.
        response = response.header("etag", tag(made.confirms.unwrap_or_default()));
    } else {
        response = response.header("content-location", format!("/made/{number}")).header("x-user", made.asked.id);
        if !number.is_multiple_of(4) {
            response = response.header("etag", tag(number));
        }
        for (name, line) in [("cache-control", made.cache_control), ("vary", made.vary)] {
            if !line.is_empty() {
                response = response.header(name, line);
            }
        }
    }
    if made.cookie {
        response = response.header("set-cookie", format!("sid={}", made.asked.id));
    }
    let body = if made.asked.method == Method::HEAD || made.confirms.is_some() { "" } else { &made.body };
    response.body(Full::new(body.to_owned().into())).unwrap()
}
