//! The transition table of a slot: what was done before, what is done now, what the store answers.
//!
//! Owners are letters and listen at an inbox of their own; fences are numbered as they are handed out. A lease takes
//! 6 s; a record is fresh for 2 s, then stale for 3 s.

use super::*;

const START: u64 = 1_000_000;

const LEASE: Duration = Duration::from_secs(6);

const LINGER: Duration = Duration::from_secs(60);

const LIFETIMES: Lifetimes =
    Lifetimes { fresh: Duration::from_secs(2), stale: Duration::from_secs(3), keep: Duration::from_secs(7) };

struct Table {
    slot: Slot,
    now: Instant,
    fences: Vec<Fence>,
    led: std::collections::BTreeMap<char, Fence>,
}

impl Table {
    fn new() -> Self {
        let now = Instant::from_micros(START);
        Self { slot: Slot::default(), now, fences: Vec::new(), led: Default::default() }
    }

    fn number(&mut self, fence: Fence) -> usize {
        let known = self.fences.iter().position(|known| *known == fence);
        1 + known.unwrap_or_else(|| {
            assert!(self.fences.iter().all(|known| *known < fence), "fences rise");
            self.fences.push(fence);
            self.fences.len() - 1
        })
    }

    fn told(told: &Told) -> String {
        told.iter()
            .map(|(inbox, notice)| {
                let notice = match notice {
                    Notice::Landed(_) => "landed",
                    Notice::Retry => "retry",
                    Notice::Scatter(_) => "scatter",
                    Notice::Invalidated => "invalidated",
                };
                format!(", {} hears {notice}", char::from(inbox.0[0]))
            })
            .collect()
    }

    fn run(&mut self, command: &str) -> String {
        let words: Vec<_> = command.split(' ').collect();
        let letter = words.get(1).and_then(|word| word.chars().next()).unwrap_or('-');
        let owner = Owner(letter as u128);
        let now = self.now;
        match words[0] {
            "begin" => {
                let followed =
                    words.get(3).map_or(Fence::NONE, |number| self.fences[number.parse::<usize>().unwrap() - 1]);
                let inbox = Inbox([letter as u8; 12]);
                match self.slot.begin(now, Begin { owner, inbox, lease: LEASE, followed }, LINGER) {
                    Begun::Hit(seen) => {
                        let fresh = if seen.is_fresh() { " fresh" } else { "" };
                        format!("hit {}{fresh}", self.number(seen.fence))
                    }
                    Begun::Lead { fence, failures, previous } => {
                        self.led.insert(letter, fence);
                        let over = previous.map_or(String::new(), |seen| format!(" over {}", self.number(seen.fence)));
                        let failures = if failures > 0 { format!(" after {failures}") } else { String::new() };
                        format!("lead {}{failures}{over}", self.number(fence))
                    }
                    Begun::Follow { fence, left } => format!("follow {} for {}", self.number(fence), left.as_secs()),
                    Begun::Stale(seen) => format!("stale {}", self.number(seen.fence)),
                    Begun::Scatter(time) => format!("scatter for {}", time.as_secs()),
                    Begun::Poisoned => "poisoned".into(),
                }
            }
            "renew" => format!("{:?}", self.slot.renew(now, owner, LEASE, LINGER)).to_lowercase(),
            "complete" => {
                let fence = words
                    .get(3)
                    .map_or_else(|| self.led[&letter], |number| self.fences[number.parse::<usize>().unwrap() - 1]);
                let (completed, told) = self.slot.complete(now, owner, fence, LIFETIMES);
                format!("{completed:?}").to_lowercase() + &Self::told(&told)
            }
            "abort" => {
                let reason = match words[2] {
                    "retry" => Reason::Retry,
                    "abandon" => Reason::Abandon,
                    _ => Reason::Scatter(Duration::from_secs(3)),
                };
                "done".to_owned() + &Self::told(&self.slot.abort(now, owner, reason, LINGER))
            }
            "invalidate" => "done".to_owned() + &Self::told(&self.slot.invalidate(now, LINGER)),
            "put" => {
                let (fence, told) = self.slot.put(now, LIFETIMES, LINGER);
                format!("put {}", self.number(fence)) + &Self::told(&told)
            }
            "get" => self
                .slot
                .get(now)
                .map_or("nothing".into(), |seen| format!("{} of {}", self.number(seen.fence), seen.age.as_secs())),
            "wait" => {
                self.now = now.after(Duration::from_secs(words[1].parse().unwrap()));
                String::new()
            }
            "evict" => {
                if words[1] != "record" {
                    self.slot.evict_state();
                }
                if words[1] != "state" {
                    self.slot.evict_record();
                }
                self.now = now.after(Duration::from_millis(1));
                String::new()
            }
            other => panic!("{other}?"),
        }
    }
}

#[test]
fn transitions() {
    #[rustfmt::skip]
    let rows = [
        // What was done before                                | now                 | answer
        // A free key, and one that is led.
        ("",                                                    "begin a",            "lead 1"),
        ("begin a",                                             "begin a",            "lead 1"),
        ("begin a, wait 2",                                     "begin b",            "follow 1 for 4"),
        ("begin a, wait 2, renew a",                            "begin b",            "follow 1 for 6"),
        ("begin a, wait 5",                                     "begin b",            "follow 1 for 1"),
        // A leader is dead from its deadline on, and may be replaced; until then it is not.
        ("begin a, wait 6",                                     "begin b",            "lead 2 after 1"),
        ("begin a, wait 6",                                     "renew a",            "held"),
        ("begin a, wait 6",                                     "complete a",         "stored"),
        ("begin a, begin c, wait 6, begin b",                   "complete b",         "stored, c hears landed"),
        ("begin a, wait 6, begin b",                            "renew a",            "lost"),
        ("begin a, wait 6, begin b",                            "complete a",         "superseded"),
        ("begin a, wait 6, begin b",                            "abort a retry",      "done"),
        ("begin a, wait 6, begin b, abort a retry",             "renew b",            "held"),
        ("begin a, wait 6, begin b, wait 6",                    "begin c",            "lead 3 after 2"),
        ("begin a, wait 6, begin b, wait 6, begin c, wait 6",   "begin d",            "poisoned"),
        ("begin a, wait 6, begin b, wait 6, begin c, wait 6, begin d", "renew c",     "lost"),
        ("begin a, wait 6, begin b, wait 6, begin c, wait 6, begin d, wait 61", "begin e", "lead 4"),
        // Completing.
        ("begin a",                                             "complete a",         "stored"),
        ("begin a, begin b, begin c",                           "complete a",         "stored, b hears landed, c hears landed"),
        ("begin a, begin b, complete a",                        "complete a",         "stored"),
        ("begin a, begin b",                                    "complete b under 1", "superseded"),
        ("begin a, abort a retry, begin a",                     "complete a under 1", "superseded"),
        ("begin a, evict state",                                "complete a",         "superseded"),
        ("begin a, evict all, begin b",                         "complete a",         "superseded"),
        ("begin a, complete a, wait 5, begin b",                "complete a",         "stored"),
        ("begin a, wait 6, begin b, complete b, wait 2",        "begin c",            "lead 3 over 2"),
        // Records: fresh, stale, gone; and for those who followed.
        ("begin a, complete a, wait 1",                         "begin b",            "hit 1 fresh"),
        ("begin a, complete a, wait 2",                         "begin b",            "lead 2 over 1"),
        ("begin a, complete a, wait 2, begin b",                "begin c",            "stale 1"),
        ("begin a, complete a, wait 5",                         "begin b",            "lead 2 over 1"),
        ("begin a, complete a, wait 5",                         "begin b following 1", "hit 1"),
        ("begin a, complete a, wait 5, begin b",                "begin c following 2", "follow 2 for 6"),
        ("begin a, complete a, wait 6",                         "get",                "1 of 6"),
        ("begin a, complete a, wait 7",                         "get",                "nothing"),
        ("begin a, complete a, wait 7",                         "begin b following 1", "lead 2"),
        ("begin a, complete a, wait 2, begin b, begin c",       "complete b",         "stored"), // Stale is told nothing.
        ("begin a, complete a, wait 2, begin b, abort b retry", "begin c",            "lead 3 after 1 over 1"),
        // Aborting.
        ("begin a, begin b",                                    "abort a retry",      "done, b hears retry"),
        ("begin a, begin b",                                    "abort a abandon",    "done, b hears retry"),
        ("begin a, begin b",                                    "abort a scatter",    "done, b hears scatter"),
        ("begin a, begin b",                                    "abort b retry",      "done"),
        ("begin a, abort a retry",                              "begin b",            "lead 2 after 1"),
        ("begin a, abort a abandon",                            "begin b",            "lead 2"),
        ("begin a, abort a scatter, wait 1",                    "begin b",            "scatter for 2"),
        ("begin a, abort a scatter, wait 3",                    "begin b",            "lead 2"),
        ("begin a, abort a retry, begin b, abort b retry, begin c", "begin d",        "poisoned"),
        ("begin a, abort a retry, begin b, complete b, wait 5, begin c", "begin d",   "follow 3 for 6"),
        // Invalidating and putting.
        ("",                                                    "invalidate",         "done"),
        ("begin a, begin b",                                    "invalidate",         "done, a hears invalidated, b hears invalidated"),
        ("begin a, invalidate",                                 "renew a",            "lost"),
        ("begin a, invalidate",                                 "complete a",         "superseded"),
        ("begin a, invalidate",                                 "begin b",            "lead 2"),
        ("begin a, invalidate, begin b",                        "complete a",         "superseded"),
        ("begin a, invalidate, begin a",                        "complete a under 1", "superseded"),
        ("begin a, complete a, invalidate",                     "begin b following 1", "lead 2"),
        ("begin a, complete a, invalidate",                     "complete a",         "stored"),
        ("begin a, begin b",                                    "put",                "put 2, a hears invalidated, b hears invalidated"),
        ("begin a, begin b, put",                               "begin b following 1", "hit 2 fresh"),
        ("begin a, put",                                        "complete a",         "superseded"),
        ("put, put, evict state, put",                          "get",                "3 of 0"),
        // Whatever is lost, fences rise.
        ("begin a, complete a, wait 2, evict state",            "begin b",            "lead 2 over 1"),
        ("begin a, complete a, evict record",                   "begin b",            "lead 2"),
        ("begin a, complete a, evict all",                      "begin b",            "lead 2"),
        ("begin a, abort a scatter, evict state",               "begin b",            "lead 2"),
        ("begin a, evict all",                                  "invalidate",         "done"),
    ];
    for (before, now, answer) in rows {
        let mut table = Table::new();
        for command in before.split(", ").filter(|command| !command.is_empty()) {
            table.run(command);
        }
        assert_eq!(table.run(now), answer, "after [{before}]: {now}");
    }
}
