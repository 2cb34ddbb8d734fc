//! Locks of [`Redis`], each operation one exchange.

use std::{sync::Arc, time::Duration};

use redis::{Cmd, Value};

use super::{
    ErrorKind, Failure, Fence, Inner, Lane, Locals, Redis, body,
    keys::hex,
    number, record,
    script::{self, Call, Script},
};
use crate::{
    backend::{
        Watch,
        lock::{self, Acquire, Acquired, Holding, LockKey, Locks, Reply, Token},
    },
    protocol::lock::{Extended, Release},
};

/// What the lock's string begins with.
const MAGIC: &[u8] = b"sfl\x01";

impl Locks for Redis {
    fn locals(&self) -> &Locals {
        &self.0.locals
    }

    fn calls(&self, key: &LockKey) -> Watch<lock::Call> {
        self.0.calls.arm(&key.key)
    }

    fn acquire<'a>(&'a self, key: &'a LockKey, acquire: Acquire) -> Reply<'a, Acquired> {
        Box::pin(async move { Ok(self.0.acquire(key, acquire).await?) })
    }

    fn extend<'a>(&'a self, key: &'a LockKey, token: Token, seq: Option<u64>, ttl: Duration) -> Reply<'a, Extended> {
        Box::pin(async move { Ok(self.0.extend(key, &token, seq, ttl).await?) })
    }

    fn release<'a>(&'a self, key: &'a LockKey, release: Release<Token>) -> Reply<'a, bool> {
        Box::pin(async move { Ok(self.0.release(key, &release).await?) })
    }

    fn raise<'a>(&'a self, key: &'a LockKey, token: Token, fence: Fence) -> Reply<'a, bool> {
        Box::pin(async move { Ok(self.0.raise(key, &token, fence).await?) })
    }

    fn inspect<'a>(&'a self, key: &'a LockKey) -> Reply<'a, Option<Holding>> {
        Box::pin(async move { Ok(self.0.inspect(key).await?) })
    }
}

impl Inner {
    async fn acquire(&self, key: &LockKey, acquire: Acquire) -> Result<Acquired, Failure> {
        let Acquire { token, seq, ttl, ticket, sole, metadata } = acquire;
        let (ticket, inbox) = match ticket {
            Some(ticket) => {
                // What would not be sent need not wait for an inbox either.
                self.lock_lane(key).gate.check()?;
                (digits(ticket), hex(&self.inbox.name().await?.0))
            }
            None => Default::default(),
        };
        let (seq, lease) = (seq.to_string(), millis(ttl));
        // Added up here, and sent as digits that the server need not write.
        let life = if sole { (lease + millis(self.settings.linger)).to_string() } else { String::new() };
        let lease = lease.to_string();
        let mut args = vec![
            token.as_bytes(),
            seq.as_bytes(),
            lease.as_bytes(),
            life.as_bytes(),
            ticket.as_bytes(),
            inbox.as_bytes(),
        ];
        args.extend(metadata.as_deref().map(str::as_bytes));
        let (answer, replicas) = self.on_lock(&script::LOCK_ACQUIRE, key, &args, self.wait(key).as_ref()).await?;
        let first = number(&answer, 0)?;
        if let Value::Array(mut values) = answer {
            let metadata = values.pop().and_then(body).map(|bytes| text(&bytes));
            return Ok(Acquired::Taken { left: Duration::from_millis(first), metadata });
        }
        acknowledged(key, &replicas)?;
        Ok(Acquired::Granted(Fence(first)))
    }

    async fn extend(&self, key: &LockKey, token: &str, seq: Option<u64>, ttl: Duration) -> Result<Extended, Failure> {
        let seq = seq.map(|seq| seq.to_string()).unwrap_or_default();
        let (ttl, linger) = (millis(ttl).to_string(), millis(self.settings.linger).to_string());
        let args = [token.as_bytes(), seq.as_bytes(), ttl.as_bytes(), linger.as_bytes()];
        let (answer, replicas) = self.on_lock(&script::LOCK_EXTEND, key, &args, self.wait(key).as_ref()).await?;
        match number(&answer, 0)? {
            1 => {
                acknowledged(key, &replicas)?;
                Ok(Extended::Held(Fence(number(&answer, 1)?), number(&answer, 2)?))
            }
            2 => Ok(Extended::Gone),
            3 => Ok(Extended::Taken),
            _ => Err(Failure::odd(&answer)),
        }
    }

    async fn release(&self, key: &LockKey, release: &Release<Token>) -> Result<bool, Failure> {
        let (seq, ticket) = (release.seq.to_string(), release.ticket.map(digits).unwrap_or_default());
        let args = [
            release.token.as_bytes(),
            seq.as_bytes(),
            ticket.as_bytes(),
            if release.undo { b"1" } else { b"0" },
            &key.key.digest().0,
            self.names.channel().as_bytes(),
        ];
        let (answer, _) = self.on_lock(&script::LOCK_RELEASE, key, &args, None).await?;
        Ok(number(&answer, 0)? == 1)
    }

    async fn raise(&self, key: &LockKey, token: &str, fence: Fence) -> Result<bool, Failure> {
        let (fence, linger) = (fence.0.to_string(), millis(self.settings.linger).to_string());
        let args = [token.as_bytes(), fence.as_bytes(), linger.as_bytes()];
        let (answer, _) = self.on_lock(&script::LOCK_RAISE, key, &args, None).await?;
        Ok(number(&answer, 0)? == 1)
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<Holding>, Failure> {
        let name = self.names.lock(key);
        let (mut lifetime, mut read) = (redis::cmd("PTTL"), redis::cmd("GET"));
        lifetime.arg(&name);
        read.arg(&name);
        // The lifetime first: if another one takes the lock in between, it seems to hold it for less time than it does.
        let [left, answer] = self.lock_lane(key).reads([&lifetime, &read]).await?;
        let (Value::Int(left @ 0..), Some(bytes)) = (left, body(answer)) else { return Ok(None) };
        Ok(holding(&bytes, Duration::from_millis(left.unsigned_abs())))
    }

    async fn on_lock(
        &self,
        script: &'static Script,
        key: &LockKey,
        args: &[&[u8]],
        after: Option<&Cmd>,
    ) -> Result<(Value, Value), Failure> {
        let (lock, floor) = (self.names.lock(key), self.names.floor(key));
        let call = Call { script, keys: &[&lock, &floor], family: None, args };
        self.lock_lane(key).call(None, &call, after).await
    }

    /// Redis answers nothing else on a connection that waits for replicas, so that one is not the one of all small
    /// commands. It is the same one for all operations of such a lock: else what undoes an acquisition could overtake it.
    fn lock_lane(&self, key: &LockKey) -> &Lane {
        if key.replicas > 0 { &self.bodies } else { &self.commands }
    }

    /// Asks how many replicas have what this connection has written. Redis gives up before its answer is given up, here
    /// and by the lock: else replicas that are away would pass for a server that hangs.
    fn wait(&self, key: &LockKey) -> Option<Cmd> {
        let patience = (key.patience * 3 / 4).min(self.settings.body_timeout / 2);
        let mut command = redis::cmd("WAIT");
        // No patience at all would be taken for patience without an end.
        command.arg(key.replicas).arg(millis(patience).to_string());
        (key.replicas > 0).then_some(command)
    }
}

/// Fails if too few replicas have what was granted.
fn acknowledged(key: &LockKey, answer: &Value) -> Result<(), Failure> {
    let wanted = u64::from(key.replicas);
    let count = if wanted > 0 { number(answer, 0)? } else { 0 };
    if count >= wanted {
        return Ok(());
    }
    let message = format!("{count} of {wanted} replicas acknowledged the lock in time; are they connected?");
    Err(Failure::new(ErrorKind::Unknown, message))
}

/// Whole milliseconds, rounded up; a key without any would be deleted.
fn millis(duration: Duration) -> u64 {
    record::millis(duration).max(1)
}

fn digits(ticket: u64) -> String {
    hex(&ticket.to_be_bytes())
}

/// Who holds a lock, as `lock.lua` writes it; nobody if somebody else wrote it.
fn holding(bytes: &[u8], left: Duration) -> Option<Holding> {
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let (_seq, fence) = (record::number(&mut rest)?, record::number(&mut rest)?);
    let (_first_and_places, mut rest) = rest.split_first_chunk::<5>()?;
    let (token, about) = (counted(&mut rest)?, counted(&mut rest)?);
    let metadata = about.strip_prefix(b"=").map(text);
    Some(Holding { token: text(token), fence: Fence(fence), left, metadata })
}

/// What stands behind its length.
fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (part, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

/// What is not UTF-8 was put there by somebody else, and is shown as far as it can be.
fn text(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}
