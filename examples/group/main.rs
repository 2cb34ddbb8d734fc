//! `Group`: singleflight for anything that is not a request.
//!
//! `cargo run --example group`. Needs nothing, unless `--redis URL` is given. See README.md beside this file.

use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::sleep};
#[cfg(feature = "redis")]
use tower_singleflight::backend::Redis;
use tower_singleflight::{
    Group,
    backend::{Backend, Memory},
    group::{Keep, Source},
};

/// Shows what a group does.
#[derive(Parser)]
struct Flags {
    /// The Redis to use instead of memory.
    #[cfg(feature = "redis")]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let flags = Flags::parse();
    #[cfg(feature = "redis")]
    if let Some(url) = flags.redis {
        let redis = Redis::connect(&url, "shop").await.map_err(|error| format!("--redis: {error}"))?;
        return show(redis).await;
    }
    #[cfg(not(feature = "redis"))]
    let Flags {} = flags;
    show(Memory::new()).await
}

async fn show(backend: impl Backend + Clone) -> Result<(), Box<dyn Error>> {
    at_the_same_time(backend.clone()).await?;
    failures(backend.clone()).await?;
    warmup(backend.clone()).await?;
    changes(backend.clone()).await?;
    strictly(backend).await
}

/// Any type can be a result that serde can read and write. `schema` counts its versions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    version: u64,
}

/// The slow thing behind the group: the database, if you like.
#[derive(Clone, Default)]
struct Origin {
    loads: Arc<AtomicU64>,
}

impl Origin {
    async fn load(self, name: &str) -> Result<User, Infallible> {
        let version = self.loads.fetch_add(1, Ordering::Relaxed) + 1;
        sleep(Duration::from_millis(100)).await;
        Ok(User { name: name.to_owned(), version })
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }
}

/// The prefix keeps apart what two runs of this program store on one Redis.
fn users(backend: impl Backend, name: &str) -> Group<User> {
    Group::new(backend, name).prefix(std::process::id().to_string()).schema(1)
}

async fn at_the_same_time(backend: impl Backend) -> Result<(), Box<dyn Error>> {
    let (users, origin) = (users(backend, "users").result_ttl(Duration::from_secs(30)), Origin::default());

    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (users, origin) = (users.clone(), origin.clone());
        // `fly` is `work` that also tells where the result came from.
        callers.spawn(async move { users.fly("ada", || origin.load("Ada")).await });
    }
    let flown: Vec<_> = callers.join_all().await.into_iter().collect::<Result<_, _>>()?;
    let led = flown.iter().filter(|flown| flown.source == Source::Led).count();
    println!("100 callers: {led} led, {} got its result; loads: {}", flown.len() - led, origin.loads());

    // The error of `work` is the error of the work. What happens to the store is nobody's concern.
    let later = origin.clone();
    let ada = users.work("ada", || later.load("Ada")).await?;
    println!("a later one: {}, version {}; loads: {}", ada.name, ada.version, origin.loads());
    Ok(())
}

/// Errors are neither shared nor kept. What shall be, must be part of the result.
async fn failures(backend: impl Backend) -> Result<(), Box<dyn Error>> {
    let emails: Group<Result<String, String>> = Group::new(backend, "emails")
        .prefix(std::process::id().to_string())
        .result_ttl(Duration::from_secs(60))
        .keep(|email| match email {
            Ok(_) => Keep::Default,
            Err(_no_such_user) => Keep::For(Duration::from_secs(1)),
        });
    let nobody = || async { Ok::<_, Infallible>(Err("no such user".to_owned())) };
    for who in ["first", "second"] {
        let flown = emails.fly("nobody", nobody).await?;
        println!("a failure that is kept, {who} caller: {:?}, {}", flown.value, described(flown.source));
    }
    Ok(())
}

async fn warmup(backend: impl Backend) -> Result<(), Box<dyn Error>> {
    let ttl = Duration::from_millis(500);
    let users = users(backend, "warm users").result_ttl(ttl).warmup_window(Duration::from_secs(30));
    let origin = Origin::default();

    for pause in [Duration::ZERO, ttl + Duration::from_millis(50), Duration::from_millis(250)] {
        sleep(pause).await;
        let origin = origin.clone();
        let flown = users.fly("grace", || origin.load("Grace")).await?;
        println!("{} ms later: version {}, {}", pause.as_millis(), flown.value.version, described(flown.source));
    }
    Ok(())
}

async fn changes(backend: impl Backend) -> Result<(), Box<dyn Error>> {
    let users = users(backend, "changing users").result_ttl(Duration::from_secs(30));

    users.put("alan", &User { name: "Alan".to_owned(), version: 7 }).await?;
    let stored = users.peek("alan").await?;
    println!("after put: {:?}", stored.map(|flown| flown.value.version));

    users.forget("alan").await?;
    println!("after forget: {:?}", users.peek("alan").await?.map(|flown| flown.value.version));
    Ok(())
}

/// `try_work` would rather fail than work twice, or not know whether the result landed.
async fn strictly(backend: impl Backend) -> Result<(), Box<dyn Error>> {
    let users = users(backend, "strict users");
    let origin = Origin::default();

    let other = tokio::spawn({
        let (users, origin) = (users.clone(), origin.clone());
        async move { users.try_work("edsger", || origin.load("Edsger")).await }
    });
    while origin.loads() == 0 {
        tokio::task::yield_now().await;
    }
    // Clones share their flights, whatever they are configured to do.
    let impatient = users.wait_timeout(Duration::from_millis(10));
    let refused = impatient.try_work("edsger", || Origin::default().load("Edsger")).await;
    match refused {
        Ok(user) => println!("strict: {user:?}"),
        Err(error) => println!("strict and impatient: {error}"),
    }
    println!("strict: version {}", other.await??.version);
    Ok(())
}

fn described(source: Source) -> &'static str {
    match source {
        Source::Led => "led",
        Source::JoinedHere | Source::JoinedElsewhere => "joined",
        Source::Hit { .. } => "hit",
        Source::Stale { .. } => "stale, and being refreshed",
        Source::Alone(_) => "alone",
        _ => "from elsewhere",
    }
}
