//! The scripts, and how they are called.

use std::sync::LazyLock;

use redis::Cmd;

/// One script: the shared parts and its own.
#[derive(Debug)]
pub(super) struct Script {
    source: &'static str,
    hash: String,
}

macro_rules! script {
    ($name:ident, $($file:literal),+) => {
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!(include_str!("scripts/lib.lua"), $("\n", include_str!($file)),+)));
    };
}

script!(BEGIN, "scripts/begin.lua");
script!(COMPLETE, "scripts/complete.lua");
script!(ABORT, "scripts/abort.lua");
script!(RENEW, "scripts/renew.lua");
script!(INVALIDATE, "scripts/invalidate.lua");
script!(PUT, "scripts/put.lua");
script!(LOCK_ACQUIRE, "scripts/lock.lua", "scripts/lock_acquire.lua");
script!(LOCK_EXTEND, "scripts/lock.lua", "scripts/lock_extend.lua");
script!(LOCK_RELEASE, "scripts/lock.lua", "scripts/lock_release.lua");
script!(LOCK_RAISE, "scripts/lock.lua", "scripts/lock_raise.lua");

/// A script with its keys and arguments. Those of a variant are told the state of its family as well, as their last key.
///
/// Sent as `EVALSHA`, and as `EVAL` if the server does not know it: that needs no right to `SCRIPT LOAD`, and one more
/// exchange only after the server forgot its scripts.
pub(super) struct Call<'a> {
    pub(super) script: &'static Script,
    pub(super) keys: &'a [&'a str],
    pub(super) family: Option<&'a str>,
    pub(super) args: &'a [&'a [u8]],
}

impl Script {
    fn new(source: &'static str) -> Self {
        Self { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }
}

impl Call<'_> {
    pub(super) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.script.hash)
    }

    pub(super) fn by_source(&self) -> Cmd {
        self.command("EVAL", self.script.source)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let keys = || self.keys.iter().copied().chain(self.family);
        let count = keys().count();
        let names: usize = keys().map(str::len).sum();
        let args: usize = self.args.iter().map(|arg| arg.len()).sum();
        let mut command = Cmd::with_capacity(3 + count + self.args.len(), name.len() + script.len() + 2 + names + args);
        command.arg(name).arg(script).arg(count);
        keys().for_each(|key| {
            command.arg(key);
        });
        self.args.iter().for_each(|arg| {
            command.arg(*arg);
        });
        command
    }
}
