//! The operations of the protocol, each one exchange.

use std::{future::Future, time::Duration};

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{
    Begin, Begun, Completed, ErrorKind, Failure, Fence, Found, Inner, Lane, Owner, Reason, Record, Renewed, body,
    keys::hex,
    known::Known,
    number, record,
    script::{self, Call},
};
use crate::key::Key;

/// Bodies above this travel on a connection of their own: a small reply behind a large one waits a thousand times longer.
const BULK: usize = 64 * 1024;

/// How long a large record may lie ready until the script that wants it has run.
const READY: Duration = Duration::from_secs(30);

/// After so many attempts whose body did not fit their answer, a begin goes on without the body.
const ATTEMPTS: u32 = 3;

/// What a begin's script says about a record: which, and how old in milliseconds.
struct Seen {
    fence: Fence,
    age: Duration,
}

impl Inner {
    /// The fast path: while a record is known to be fresh, one plain read tells whether it is still there.
    pub(super) fn recall(&self, key: &Key) -> Option<impl Future<Output = Result<Option<Found>, Failure>> + Send> {
        let digest = key.digest();
        let known = self.known.get(digest).filter(|known| Instant::now() < known.fresh_until)?;
        Some(async move {
            let found = self.read_known(key, known).await?;
            if found.is_none() {
                self.known.forget(digest);
            }
            Ok(found)
        })
    }

    pub(super) async fn begin(&self, key: &Key, begin: Begin) -> Result<Begun, Failure> {
        let digest = key.digest();
        // Before the name of the inbox is read: see there.
        let watch = self.watches.arm(key);
        let lane = self.lane(self.known.get(digest).map_or(0, |known| known.size));
        let (name, state, family) = self.places(key);
        let owner = hex(&begin.owner.0.to_be_bytes());
        let (lease, followed, linger) = (micros(begin.lease), begin.followed.0.to_string(), self.linger());
        let read = get(&name);
        for attempt in 1..=ATTEMPTS {
            // What would not be sent need not wait for an inbox either.
            lane.gate.check()?;
            let inbox = hex(&self.inbox.name().await?.0);
            let blind: &[u8] = if attempt < ATTEMPTS { b"0" } else { b"1" };
            let call = Call {
                script: &script::BEGIN,
                keys: &[&name, &state],
                family: family.as_deref(),
                args: &[
                    owner.as_bytes(),
                    inbox.as_bytes(),
                    lease.as_bytes(),
                    followed.as_bytes(),
                    linger.as_bytes(),
                    blind,
                ],
            };
            let asked = Instant::now();
            let (answer, body) = lane.call(None, &call, Some(&read)).await?;
            // Script and read are two commands: another one may have come between them, and only a body with the very
            // fence of which the script spoke is what the script saw.
            let found = |seen: Seen| self.take(key, body, &seen, asked);
            match number(&answer, 0)? {
                kind @ (1 | 4) => {
                    let seen = seen(&answer, 1)?;
                    match (found(seen), kind) {
                        (Some(found), 1) => return Ok(Begun::Hit(found)),
                        (Some(found), _) => return Ok(Begun::Stale(found)),
                        (None, _) => {}
                    }
                    // Gone or replaced in between: the next answer will tell. But a body that cannot be used (of
                    // another key, of an unknown version) would come again and again, so the last attempt does
                    // without.
                }
                2 => {
                    let previous = if number(&answer, 3)? > 0 { found(seen(&answer, 3)?) } else { None };
                    let failures = u32::try_from(number(&answer, 2)?).unwrap_or(u32::MAX);
                    return Ok(Begun::Lead { fence: Fence(number(&answer, 1)?), failures, previous, watch });
                }
                3 => {
                    let left = Duration::from_micros(number(&answer, 2)?);
                    return Ok(Begun::Follow { fence: Fence(number(&answer, 1)?), left, watch });
                }
                5 => return Ok(Begun::Scatter(Duration::from_micros(number(&answer, 1)?))),
                6 => return Ok(Begun::Poisoned),
                _ => return Err(Failure::odd(&answer)),
            }
        }
        Err(Failure::new(ErrorKind::Protocol, "redis spoke of a record that it was told not to use"))
    }

    pub(super) async fn renew(&self, key: &Key, owner: Owner, lease: Duration) -> Result<Renewed, Failure> {
        let (state, family) = (self.names.state(key), self.names.family(key));
        let (owner, lease, linger) = (hex(&owner.0.to_be_bytes()), micros(lease), self.linger());
        let args: [&[u8]; 3] = [owner.as_bytes(), lease.as_bytes(), linger.as_bytes()];
        let call = Call { script: &script::RENEW, keys: &[&state], family: family.as_deref(), args: &args };
        let (answer, _) = self.commands.call(None, &call, None).await?;
        Ok(if number(&answer, 0)? == 1 { Renewed::Held } else { Renewed::Lost })
    }

    pub(super) async fn complete(
        &self,
        key: &Key,
        owner: Owner,
        fence: Fence,
        record: Record,
    ) -> Result<Completed, Failure> {
        let digest = key.digest();
        let asked = Instant::now();
        let size = record::encoded_len(key, &record);
        let (hex, number_of) = (hex(&owner.0.to_be_bytes()), fence.0.to_string());
        let args: [&[u8]; 2] = [hex.as_bytes(), number_of.as_bytes()];
        let answer = self.store(&script::COMPLETE, key, owner, &args, fence, &record).await?;
        match number(&answer, 0)? {
            3 => Ok(Completed::Stored),
            1 => {
                let fresh_until = asked + Duration::from_millis(record::millis(record.lifetimes.fresh));
                self.known.insert(digest, Known { fence, landed: asked, fresh_until, size });
                Ok(Completed::Stored)
            }
            0 => Ok(Completed::Superseded),
            2 => Err(nothing_ready()),
            _ => Err(Failure::odd(&answer)),
        }
    }

    pub(super) async fn abort(&self, key: &Key, owner: Owner, reason: Reason) -> Result<(), Failure> {
        let (state, family) = (self.names.state(key), self.names.family(key));
        let (reason, time) = match reason {
            Reason::Retry => ("retry", Duration::ZERO),
            Reason::Abandon => ("abandon", Duration::ZERO),
            Reason::Scatter(time) => ("scatter", time),
        };
        let (owner, time, linger) = (hex(&owner.0.to_be_bytes()), micros(time), self.linger());
        let args: [&[u8]; 6] = [
            owner.as_bytes(),
            reason.as_bytes(),
            time.as_bytes(),
            linger.as_bytes(),
            &key.digest().0,
            self.names.channel().as_bytes(),
        ];
        let call = Call { script: &script::ABORT, keys: &[&state], family: family.as_deref(), args: &args };
        self.commands.call(None, &call, None).await.map(drop)
    }

    pub(super) async fn invalidate(&self, key: &Key) -> Result<(), Failure> {
        let digest = key.digest();
        self.known.forget(digest);
        let (name, state, family) = self.places(key);
        let args: [&[u8]; 2] = [&digest.0, self.names.channel().as_bytes()];
        let call = Call { script: &script::INVALIDATE, keys: &[&name, &state], family: family.as_deref(), args: &args };
        self.commands.call(None, &call, None).await.map(drop)
    }

    pub(super) async fn put(&self, key: &Key, record: Record) -> Result<(), Failure> {
        self.known.forget(key.digest());
        // Only the script knows the fence, and writes it over this one.
        let answer = self
            .store(&script::PUT, key, Owner(rand::random()), &[self.linger().as_bytes()], Fence(1), &record)
            .await?;
        if number(&answer, 0)? == 0 { Err(nothing_ready()) } else { Ok(()) }
    }

    pub(super) async fn get(&self, key: &Key) -> Result<Option<Found>, Failure> {
        let name = self.names.record(key);
        let lane = self.lane(self.known.get(key.digest()).map_or(0, |known| known.size));
        let mut lifetime = redis::cmd("PTTL");
        lifetime.arg(&name);
        let (read, ask) = (get(&name), self.ask_floor(key));
        for _ in 0..ATTEMPTS {
            // The lifetime first: if the record is replaced in between, it seems older than it is, never younger.
            let (left, answer, floor) = match &ask {
                None => {
                    let [left, answer] = lane.reads([&lifetime, &read]).await?;
                    (left, answer, Fence::NONE)
                }
                Some(ask) => {
                    let [left, answer, floor] = lane.reads([&lifetime, &read, ask]).await?;
                    (left, answer, floor_of(floor))
                }
            };
            let Value::Int(left @ 0..) = left else { return Ok(None) };
            let left = Duration::from_millis(left.unsigned_abs());
            let found = body(answer).and_then(|body| record::decode(&body)?.of(key));
            let Some(found) = found.filter(|found| found.fence > floor) else { return Ok(None) };
            // More than the whole: the lifetime is that of the record before. If it is again, it is of no record of ours.
            if let Some(age) = found.lifetimes.keep.checked_sub(left) {
                return Ok(Some(Found { age, ..found }));
            }
        }
        Ok(None)
    }

    async fn read_known(&self, key: &Key, known: Known) -> Result<Option<Found>, Failure> {
        let (read, lane) = (get(&self.names.record(key)), self.lane(known.size));
        let (answer, floor) = match self.ask_floor(key) {
            None => (lane.command(&read).await?, Fence::NONE),
            Some(ask) => {
                let [answer, floor] = lane.reads([&read, &ask]).await?;
                (answer, floor_of(floor))
            }
        };
        let found = body(answer).and_then(|body| record::read(&body, key, known.fence));
        let found = found.filter(|found| found.fence > floor);
        Ok(found.map(|found| Found { age: known.landed.elapsed(), ..found }))
    }

    /// Asks up to which fence the records of a variant do not count. Sent after the read of the record: a family that is
    /// invalidated between the two takes the record with it.
    fn ask_floor(&self, key: &Key) -> Option<Cmd> {
        let mut command = redis::cmd("HGET");
        command.arg(self.names.family(key)?).arg("v");
        Some(command)
    }

    /// The record of which the script spoke, if it is the one that came, and remembers it.
    fn take(&self, key: &Key, answer: Value, seen: &Seen, asked: Instant) -> Option<Found> {
        let bytes = body(answer)?;
        let size = bytes.len();
        let found = record::read(&bytes, key, seen.fence)?;
        // It was this old when the script ran, which was after `asked`: dated back from there, its age is never
        // underestimated.
        let landed = asked.checked_sub(seen.age).unwrap_or(asked);
        let left = found.lifetimes.fresh.saturating_sub(seen.age);
        let fresh_until = asked.checked_add(left).unwrap_or(asked);
        self.known.insert(key.digest(), Known { fence: seen.fence, landed, fresh_until, size });
        Some(Found { age: seen.age, ..found })
    }

    /// Runs a script that stores a record. A small record is an argument, and travels on to those who wait. A large one
    /// is set under a name of its own in the same exchange, because scripts pay for every byte they touch.
    async fn store(
        &self,
        script: &'static script::Script,
        key: &Key,
        owner: Owner,
        first: &[&[u8]],
        fence: Fence,
        record: &Record,
    ) -> Result<Value, Failure> {
        let (name, state, family) = self.places(key);
        let (digest, family) = (key.digest(), family.as_deref());
        let total = record::total_millis(&record.lifetimes).to_string();
        let bytes = record::encode(key, fence, record);
        let mut args = first.to_vec();
        args.extend([total.as_bytes(), &digest.0[..], self.names.channel().as_bytes()]);
        if bytes.len() <= self.settings.inline_limit {
            args.push(&bytes);
            let call = Call { script, keys: &[&name, &state], family, args: &args };
            return Ok(self.commands.call(None, &call, None).await?.0);
        }
        let ready = self.names.ready(key, owner);
        let mut set = Cmd::with_capacity(5, bytes.len() + ready.len() + 16);
        let lifetime = u64::try_from(READY.as_millis()).unwrap_or(u64::MAX);
        set.arg("SET").arg(&ready).arg(&bytes[..]).arg("PX").arg(lifetime);
        let call = Call { script, keys: &[&name, &state, &ready], family, args: &args };
        Ok(self.lane(bytes.len()).call(Some(&set), &call, None).await?.0)
    }

    /// Where the record and the state of a key lie, and of a variant what it shares with its family.
    fn places(&self, key: &Key) -> (String, String, Option<String>) {
        (self.names.record(key), self.names.state(key), self.names.family(key))
    }

    fn lane(&self, size: usize) -> &Lane {
        if size > BULK { &self.bodies } else { &self.commands }
    }

    fn linger(&self) -> String {
        micros(self.settings.linger)
    }
}

fn get(name: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, name.len() + 3);
    command.arg("GET").arg(name);
    command
}

/// Of a family without a floor nothing counts.
fn floor_of(answer: Value) -> Fence {
    let floor = body(answer).and_then(|digits| std::str::from_utf8(&digits).ok()?.parse().ok());
    floor.map_or(Fence(u64::MAX), Fence)
}

fn seen(answer: &Value, index: usize) -> Result<Seen, Failure> {
    Ok(Seen { fence: Fence(number(answer, index)?), age: Duration::from_millis(number(answer, index + 1)?) })
}

fn nothing_ready() -> Failure {
    Failure::new(ErrorKind::Refused, "redis lost a record between two commands of one exchange; it may be evicting")
}

fn micros(duration: Duration) -> String {
    record::micros(duration).to_string()
}
