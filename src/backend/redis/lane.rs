//! How operations travel: through the breaker, on a connection, and back as values or failures.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use redis::{Cmd, Pipeline, Value};
use tokio::time::Instant;

use super::{
    ErrorKind,
    breaker::{Admission, Breaker, Limits, Outcome},
    connect::Link,
    error::Failure,
    script::Call,
};

/// One connection behind the breaker that all connections of a handle share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) link: Arc<Link>,
    pub(super) gate: Arc<Gate>,
}

/// The breaker, made cheap while all is well.
#[derive(Debug)]
pub(super) struct Gate {
    calm: AtomicBool,
    breaker: Mutex<Breaker>,
    /// Why the last operation failed that spoke against the server.
    reason: Mutex<String>,
}

/// The right to send one operation; how it ends is noted even if nobody waits for it.
struct Pass<'a> {
    gate: &'a Gate,
    admission: Admission,
    outcome: Outcome,
}

impl Gate {
    pub(super) fn new(limits: Limits) -> Self {
        Self { calm: AtomicBool::new(true), breaker: Mutex::new(Breaker::new(limits)), reason: Mutex::default() }
    }

    /// Fails if an operation would not be sent: whoever must wait for something else first need not.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if !self.calm.load(Ordering::Relaxed) && self.breaker().refuses(Instant::now()) {
            return Err(self.refusal());
        }
        Ok(())
    }

    fn admit(&self) -> Result<Pass<'_>, Failure> {
        let admission = match self.calm.load(Ordering::Relaxed) {
            true => Admission::Routine,
            false => self.breaker().admit(Instant::now()).ok_or_else(|| self.refusal())?,
        };
        Ok(Pass { gate: self, admission, outcome: Outcome::Dropped })
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self) -> Failure {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let message = format!("redis failed too often in a row and is left alone for a moment; at last: {reason}");
        Failure::new(ErrorKind::Unavailable, message)
    }
}

impl Pass<'_> {
    fn end(mut self, failure: Option<&Failure>) {
        let Some(failure) = failure else {
            self.outcome = Outcome::Answered;
            return;
        };
        self.outcome = failure.outcome;
        if self.outcome != Outcome::Answered {
            self.gate.reason.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&failure.message);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let calm = &self.gate.calm;
        let routine = matches!(self.outcome, Outcome::Answered | Outcome::Dropped);
        if routine && calm.load(Ordering::Relaxed) {
            return;
        }
        let mut breaker = self.gate.breaker();
        breaker.end(Instant::now(), self.admission, self.outcome);
        calm.store(breaker.is_calm(), Ordering::Relaxed);
    }
}

impl Lane {
    /// One command, one answer.
    pub(super) async fn command(&self, command: &Cmd) -> Result<Value, Failure> {
        let pass = self.gate.admit()?;
        // Awaited in place: a future that is named first is stored twice.
        let answer = async {
            let mut live = self.link.live().await?;
            let answer = live.connection.send_packed_command(command).await.map_err(Failure::of_operation);
            let mut answer = answer.and_then(checked);
            self.link.note(&live, answer.as_mut().err());
            answer
        }
        .await;
        pass.end(answer.as_ref().err());
        answer
    }

    /// Several commands in one exchange; the answers of each, errors included.
    pub(super) async fn commands(&self, commands: &[&Cmd]) -> Result<Vec<Value>, Failure> {
        let pass = self.gate.admit()?;
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command((*command).clone());
        }
        let answers = async {
            let mut live = self.link.live().await?;
            let answers = live.connection.send_packed_commands(&pipeline, 0, commands.len()).await;
            let mut answers = answers.map_err(Failure::of_operation);
            let mut refused = answers.iter().flatten().find_map(refusal);
            self.link.note(&live, answers.as_mut().err().or(refused.as_mut()));
            Ok((answers?, refused))
        }
        .await;
        pass.end(answers.as_ref().map_or_else(Some, |(_, refused)| refused.as_ref()));
        answers.map(|(values, _)| values)
    }

    /// Several reads in one exchange, of which none may fail.
    pub(super) async fn reads<const N: usize>(&self, commands: [&Cmd; N]) -> Result<[Value; N], Failure> {
        let answers = self.commands(&commands).await?.into_iter().map(ours).collect::<Result<Vec<_>, _>>()?;
        answers.try_into().map_err(|odd| Failure::odd(&Value::Array(odd)))
    }

    /// Calls a script, together with a command before and one after it, in one exchange.
    ///
    /// Returns the answers of the script and of the command after it. If the command before the script failed, the
    /// script finds nothing ready, does nothing, and that failure is the answer.
    pub(super) async fn call(
        &self,
        before: Option<&Cmd>,
        call: &Call<'_>,
        after: Option<&Cmd>,
    ) -> Result<(Value, Value), Failure> {
        let script = call.by_hash();
        let commands: Vec<&Cmd> = before.into_iter().chain([&script]).chain(after).collect();
        let mut answers = self.commands(&commands).await?.into_iter();
        if before.is_some() {
            checked(answers.next().unwrap_or(Value::Nil))?;
        }
        let (answer, other) = (answers.next().unwrap_or(Value::Nil), answers.next().unwrap_or(Value::Nil));
        if !matches!(&answer, Value::ServerError(error) if error.code() == "NOSCRIPT") {
            return Ok((checked(answer)?, checked(other)?));
        }
        // What came before has been done; the script itself, and what reads after it, has not.
        let script = call.by_source();
        let commands: Vec<&Cmd> = [&script].into_iter().chain(after).collect();
        let mut answers = self.commands(&commands).await?.into_iter();
        let (answer, other) = (answers.next().unwrap_or(Value::Nil), answers.next().unwrap_or(Value::Nil));
        Ok((checked(answer)?, checked(other)?))
    }
}

fn checked(answer: Value) -> Result<Value, Failure> {
    refusal(&answer).map_or(Ok(answer), Err)
}

/// What lies there as another type was put there by nobody who speaks this protocol: to readers it is nothing.
fn ours(answer: Value) -> Result<Value, Failure> {
    match &answer {
        Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(Value::Nil),
        _ => checked(answer),
    }
}

fn refusal(answer: &Value) -> Option<Failure> {
    match answer {
        Value::ServerError(error) => Some(Failure::of_server(error.clone())),
        _ => None,
    }
}
