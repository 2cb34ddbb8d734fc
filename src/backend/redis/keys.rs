//! The names of everything that lies in Redis.

use super::{BackendError, ErrorKind, LockKey};
use crate::{
    key::Key,
    protocol::lease::{Inbox, Owner},
};

/// The version of the protocol: replicas that speak another one never meet.
const PROTOCOL: &str = "sf1:";

/// Longer prefixes would be paid for with every command.
const LONGEST_PREFIX: usize = 128;

/// Names of one application's keys and channels.
///
/// The digest of the primary key stands in braces: all names of one key, those of its variants included, share a cluster
/// slot. The digest of a variant stands right behind the braces.
#[derive(Debug)]
pub(super) struct Names {
    base: String,
    channel: String,
}

impl Names {
    /// Names that begin with `prefix`.
    pub(super) fn new(prefix: &str) -> Result<Self, BackendError> {
        let refuse = |why: &str| {
            let message = format!("the prefix {prefix:?} {why}; choose one name per application, like \"shop\"");
            Err(BackendError::new(ErrorKind::Config, message))
        };
        if prefix.is_empty() {
            return refuse("is empty, so that applications on one redis would share their answers");
        }
        if prefix.len() > LONGEST_PREFIX {
            return refuse("is longer than 128 bytes");
        }
        if prefix.contains(['{', '}']) {
            return refuse("contains a brace, which would move its keys to one cluster slot");
        }
        if prefix.contains(':') {
            return refuse("contains a colon, so that the rights of the user of one application could cover another");
        }
        if prefix.contains(['*', '?', '[', ']', '\\']) {
            return refuse("contains a character that stands for others where rights are given (one of *?[]\\)");
        }
        if prefix.contains(|char: char| char.is_whitespace() || char.is_control()) {
            return refuse("contains white space or a control character");
        }
        let base = format!("{PROTOCOL}{prefix}:");
        let channel = format!("{base}inbox:");
        Ok(Self { base, channel })
    }

    /// Where the record of a key lies.
    pub(super) fn record(&self, key: &Key) -> String {
        self.of(key, ":r", 0)
    }

    /// Where the state of a key lies.
    pub(super) fn state(&self, key: &Key) -> String {
        self.of(key, ":s", 0)
    }

    /// Where a variant shares what concerns all variants of its primary: in the state of that.
    pub(super) fn family(&self, key: &Key) -> Option<String> {
        key.is_variant().then(|| self.state(key.primary()))
    }

    /// Where a large record lies until it becomes the record of a key.
    pub(super) fn ready(&self, key: &Key, owner: Owner) -> String {
        let mut name = self.of(key, ":t:", 32);
        push_hex(&mut name, &owner.0.to_be_bytes());
        name
    }

    /// Where a lock lies.
    pub(super) fn lock(&self, key: &LockKey) -> String {
        [&self.base, &*key.name].concat()
    }

    /// Where the floor of its fences lies. No lock lies there, because the name of a lock ends with a brace.
    pub(super) fn floor(&self, key: &LockKey) -> String {
        [&self.base, &*key.name, ":f"].concat()
    }

    /// What the channel of every inbox begins with.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// The channel of an inbox.
    pub(super) fn inbox(&self, inbox: Inbox) -> String {
        let mut name = self.channel.clone();
        push_hex(&mut name, &inbox.0);
        name
    }

    fn of(&self, key: &Key, kind: &str, more: usize) -> String {
        let digests = if key.is_variant() { 66 } else { 34 };
        let mut name = String::with_capacity(self.base.len() + digests + kind.len() + more);
        name.push_str(&self.base);
        name.push('{');
        push_hex(&mut name, &key.primary_digest().0);
        name.push('}');
        if key.is_variant() {
            push_hex(&mut name, &key.digest().0);
        }
        name.push_str(kind);
        name
    }
}

/// Hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    push_hex(&mut digits, bytes);
    digits
}

/// Appends hexadecimal digits; a table, because a name is made for every command.
fn push_hex(to: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        to.push(char::from(DIGITS[usize::from(byte >> 4)]));
        to.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_those_of_the_protocol() {
        let names = Names::new("shop").unwrap();
        let key = Key::builder("key").finish();
        let hex = key.digest();
        assert_eq!(names.record(&key), format!("sf1:shop:{{{hex}}}:r"));
        assert_eq!(names.state(&key), format!("sf1:shop:{{{hex}}}:s"));
        assert_eq!(names.ready(&key, Owner(1)), format!("sf1:shop:{{{hex}}}:t:{:032x}", 1));
        assert_eq!(names.family(&key), None);
        let variant = key.variant("a");
        let hex = format!("{{{hex}}}{}", variant.digest());
        assert_eq!(names.record(&variant), format!("sf1:shop:{hex}:r"));
        assert_eq!(names.state(&variant), format!("sf1:shop:{hex}:s"));
        assert_eq!(names.ready(&variant, Owner(1)), format!("sf1:shop:{hex}:t:{:032x}", 1));
        assert_eq!(names.family(&variant), Some(names.state(&key)));
        assert_eq!(names.inbox(Inbox([1; 12])), format!("sf1:shop:inbox:{}", "01".repeat(12)));
        let lock = LockKey { name: "lock:{a b}".into(), key, replicas: 0, patience: Duration::ZERO };
        assert_eq!(names.lock(&lock), "sf1:shop:lock:{a b}");
        assert_eq!(names.floor(&lock), "sf1:shop:lock:{a b}:f");
    }

    #[test]
    fn a_prefix_that_cannot_work_is_refused_with_the_reason() {
        for (prefix, why) in [
            ("", "empty"),
            ("a{b", "brace"),
            ("a}b", "brace"),
            ("a b", "white space"),
            ("a\n", "white"),
            ("shop:eu", "colon"),
            ("a*", "stands for"),
            ("a?", "stands for"),
            ("a[bc]", "stands for"),
            ("a]", "stands for"),
            ("a\\", "stands for"),
        ] {
            let error = Names::new(prefix).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(Names::new(&"x".repeat(129)).is_err());
        assert!(Names::new(&"x".repeat(128)).is_ok());
    }
}
