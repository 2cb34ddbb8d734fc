//! What is gathered: numbers in Redis that are read, worked on for a while, and written back.
//!
//! Two at a time would both begin with the same numbers, and the work of one of them would be gone.

use std::time::Duration;

use redis::{Client, RedisError, Script, aio::MultiplexedConnection};
use serde::Serialize;
use tokio::time::sleep;
use tower_singleflight::backend::Fence;

const PLACE: &str = "gather-stats";

/// Writes, unless a younger holder of the lock has written: a process that was paused may have lost the lock and not
/// know it.
const WRITE: &str = "
    if tonumber(redis.call('HGET', KEYS[1], 'fence') or 0) > tonumber(ARGV[1]) then return 0 end
    redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'run', ARGV[2], 'by', ARGV[3])
    return 1
";

/// The numbers after one gathering.
#[derive(Serialize)]
pub struct Stats {
    /// How many gatherings there were, with this one.
    run: u64,
    /// Who did the one before.
    after: Option<String>,
}

#[derive(Clone)]
pub struct Store {
    client: Client,
    script: Script,
}

impl Store {
    pub fn new(url: &str) -> Result<Self, RedisError> {
        Ok(Self { client: Client::open(url)?, script: Script::new(WRITE) })
    }

    /// Gathers, which takes as long as `work`. `None` if the fence was too old to write.
    pub async fn gather(&self, by: &str, fence: Fence, work: Duration) -> Result<Option<Stats>, RedisError> {
        let mut redis: MultiplexedConnection = self.client.get_multiplexed_async_connection().await?;
        let mut read = redis::cmd("HMGET");
        read.arg(PLACE).arg(&["run", "by"]);
        let (before, after): (Option<u64>, Option<String>) = read.query_async(&mut redis).await?;
        sleep(work).await;
        let run = before.unwrap_or_default() + 1;
        let mut write = self.script.key(PLACE);
        write.arg(fence.0).arg(run).arg(by);
        let written: bool = write.invoke_async(&mut redis).await?;
        Ok(written.then_some(Stats { run, after }))
    }
}
