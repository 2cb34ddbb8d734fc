//! The transition table of a flight: what happened before, what happens now, what the flight says.
//!
//! Callers and attempts are numbers; attempt `n` leads under fence `10 n`, other replicas under fence 5. A lease takes
//! 6 s, the store has 1 s to answer, detached work 3 s. `wait` is in milliseconds and fires the timer if it is due. What
//! ` & ` joins happens before the flight is asked what to do.

use super::*;

const RULES: Rules =
    Rules { lease: Duration::from_secs(6), budget: Duration::from_secs(1), detached: Duration::from_secs(3) };

fn input(words: &[&str]) -> Input {
    let number = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let attempt = number as Attempt;
    let after = |name| {
        let at = words.iter().position(|word| *word == name)?;
        words[at + 1].parse::<u64>().ok()
    };
    let has = |name| words.contains(&name);
    let begun = |reply| Input::Begun(attempt, reply);
    match words[0] {
        "join" => Input::Join { caller: number, strict: has("strict") },
        "leave" => Input::Leave { caller: number },
        "lead" => begun(Reply::Lead {
            fence: Fence(number * 10),
            failures: after("failures").unwrap_or(0) as u32,
            stale: after("stale").map(Duration::from_secs),
        }),
        "follow" => begun(Reply::Follow { fence: Fence(5), left: Duration::from_secs(4) }),
        "hit" => {
            let age = Duration::from_millis(after("age").unwrap_or(0));
            begun(Reply::Hit { fence: Fence(5), age, fresh: has("fresh") })
        }
        "stale" => begun(Reply::Stale),
        "scatter" => begun(Reply::Scatter),
        "poisoned" => begun(Reply::Poisoned),
        "failed" => begun(Reply::Failed { may_have_run: has("maybe") }),
        "announced" => Input::Announced { open: has("open") },
        "value" => Input::Worked(Outcome::Value),
        "passing" => Input::Worked(Outcome::Passing),
        "failure" => Input::Worked(Outcome::Failed { shareable: true }),
        "error" => Input::Worked(Outcome::Failed { shareable: false }),
        "declined" => Input::Worked(Outcome::Declined),
        "unshareable" => Input::Worked(Outcome::Unshareable(Duration::from_secs(3))),
        "held" => Input::Renewed(attempt, Some(Renewed::Held)),
        "lost" => Input::Renewed(attempt, Some(Renewed::Lost)),
        "unrenewed" => Input::Renewed(attempt, None),
        "stored" => Input::Completed(attempt, Some(Completed::Stored)),
        "superseded" => Input::Completed(attempt, Some(Completed::Superseded)),
        "uncompleted" => Input::Completed(attempt, None),
        "aborted" => Input::Aborted(attempt, true),
        "unaborted" => Input::Aborted(attempt, false),
        "landed" => Input::Notified(Notice::Landed { fence: Fence(number), with_record: has("record") }),
        "retry" => Input::Notified(Notice::Retry),
        "scattered" => Input::Notified(Notice::Scatter),
        "invalidated" => Input::Notified(Notice::Invalidated),
        "evict" => Input::Evict,
        other => panic!("{other}?"),
    }
}

fn say(output: Output) -> String {
    match output {
        Output::Begin { attempt, followed: Fence::NONE } => format!("begin {attempt}"),
        Output::Begin { attempt, followed } => format!("begin {attempt} following {}", followed.0),
        Output::Work { caller } => format!("work {caller}"),
        Output::Cancel => "cancel".into(),
        Output::Renew { attempt } => format!("renew {attempt}"),
        Output::Complete { attempt, for_waiters, .. } => {
            format!("complete {attempt}{}", if for_waiters { " for nobody else" } else { "" })
        }
        Output::Abort { attempt, reason } => format!("abort {attempt} {reason:?}"),
        Output::Answer { callers, verdict } => format!("{callers:?} {verdict:?}"),
        Output::Detach => "detach".into(),
    }
}

fn run(flight: &mut Flight, now: &mut Instant, command: &str) -> String {
    for command in command.split(" & ") {
        let words: Vec<_> = command.split(' ').collect();
        if words[0] == "wait" {
            *now = now.after(Duration::from_millis(words[1].parse().unwrap()));
            flight.handle_timeout(*now);
        } else {
            flight.handle(*now, input(&words));
        }
    }
    let outputs: Vec<_> = core::iter::from_fn(|| flight.poll_output()).map(say).collect();
    outputs.join("; ")
}

#[test]
fn transitions() {
    #[rustfmt::skip]
    let rows = [
        // What happened before                               | now              | what the flight says
        // Idle and Beginning.
        ("",                                                   "join 1",          "begin 1"),
        ("join 1",                                             "join 2",          ""),
        ("join 1",                                             "lead 1",          "work 1"),
        ("join 1",                                             "follow 1",        ""),
        ("join 1",                                             "hit 1 fresh",     "[1] Value(Stored)"),
        ("join 1, wait 500",                                   "hit 1 age 400",   "[1] Value(Stored)"),
        ("join 1, wait 500",                                   "hit 1 age 600",   "begin 2"),
        ("join 1, wait 500, join 2",                           "hit 1 age 400",   "[1] Value(Stored); begin 2"),
        ("join 1",                                             "stale 1",         "[1] Stale"),
        ("join 1, join 2 strict",                              "scatter 1",       "[2] Refused(Unshareable); [1] Alone(Unshareable)"),
        ("join 1, join 2 strict",                              "poisoned 1",      "[2] Refused(Poisoned); work 1"),
        ("join 1",                                             "failed 1",        "work 1"),
        ("join 1",                                             "failed 1 maybe",  "abort 1 Abandon; work 1"),
        ("join 1, join 2 strict",                              "wait 1000",       "[2] Refused(Unavailable); work 1"),
        ("join 1 strict",                                      "wait 1000",       "[1] Refused(Unavailable)"),
        ("join 1",                                             "hit 2 fresh",     ""),
        // A begin that nobody waits for is taken up again, or given back.
        ("join 1, leave 1",                                    "join 2",          ""),
        ("join 1, leave 1, join 2",                            "lead 1",          "work 2"),
        ("join 1, leave 1",                                    "lead 1",          "abort 1 Abandon"),
        ("join 1, leave 1",                                    "failed 1 maybe",  "abort 1 Abandon"),
        ("join 1, leave 1",                                    "follow 1",        ""),
        ("join 1, leave 1, follow 1",                          "join 2",          "begin 2"),
        // Whoever is to run his work leaves before anybody has started it.
        ("join 1, join 2",                                     "lead 1 & leave 1", "work 2"),
        ("join 1, join 2",                                     "lead 1 & leave 2", "work 1"),
        ("join 1",                                             "lead 1 & leave 1", "abort 1 Abandon"),
        ("join 1, join 2",                                     "lead 1 stale 4 & leave 1", "[1, 2] Stale; abort 1 Abandon"),
        ("join 1",                                             "wait 1000 & leave 1", ""),
        ("join 1, join 2 strict",                              "lead 1 & invalidated & leave 1", "abort 1 Abandon; detach; [2] Refused(Superseded)"),
        ("join 1, join 2",                                     "wait 1000 & leave 1", "work 2"),
        // Leading.
        ("join 1, join 2, lead 1",                             "value",           "[1, 2] Value(Computed(1)); complete 1"),
        ("join 1 strict, join 2, lead 1",                      "value",           "[2] Value(Computed(1)); complete 1"),
        ("join 1, join 2, lead 1",                             "passing",         "[1, 2] Value(Computed(1)); complete 1 for nobody else"),
        ("join 1, join 2, lead 1",                             "error",           "[1] Ran; abort 1 Retry"),
        ("join 1, join 2, lead 1",                             "failure",         "[1] Ran; abort 1 Retry"),
        ("join 1, join 2, lead 1 failures 1",                  "failure",         "[1] Ran; [2] Value(Computed(1)); complete 1 for nobody else"),
        ("join 1, join 2, lead 1 failures 1",                  "error",           "[1] Ran; abort 1 Retry"),
        ("join 1, join 2, join 3 strict, lead 1",              "unshareable",     "[1] Ran; [3] Refused(Unshareable); [2] Alone(Unshareable); abort 1 Scatter(3s)"),
        ("join 1, lead 1",                                     "wait 2000",       "renew 1"),
        ("join 1, lead 1, wait 2000, held 1",                  "wait 2000",       "renew 1"),
        ("join 1, lead 1, wait 2000, unrenewed 1",             "wait 1000",       "renew 1"),
        ("join 1, lead 1, wait 2000",                          "lost 1",          "detach"), // Perhaps it was invalidated.
        ("join 1, lead 1, wait 2000, lost 1",                  "value",           "[1] Value(Alone(Superseded))"),
        ("join 1 strict, lead 1, wait 2000, lost 1",           "value",           "[1] Refused(Superseded)"),
        ("join 1, lead 1, wait 2000, lost 1",                  "join 2 strict",   "[2] Refused(Superseded)"),
        ("join 1, lead 1, leave 1",                            "value",           "complete 1"),
        ("join 1, lead 1, leave 1, join 2",                    "value",           "[2] Value(Computed(1)); complete 1"),
        ("join 1, lead 1, leave 1, join 2",                    "evict",           ""),
        ("join 1, lead 1, leave 1",                            "evict",           "cancel; abort 1 Abandon"),
        ("join 1, lead 1, leave 1, wait 2000, held 1",         "wait 1000",       "cancel; abort 1 Abandon"),
        ("join 1, lead 1, leave 1",                            "error",           "abort 1 Retry"), // Nobody is told.
        ("join 1, lead 1, leave 1",                            "unshareable",     "abort 1 Scatter(3s)"), // Nobody is told.
        // Refreshing a stale record.
        ("join 1, join 2",                                     "lead 1 stale 4",  "work 1; [1, 2] Stale"),
        ("join 1, lead 1 stale 4",                             "join 2",          "[2] Stale"),
        ("join 1, lead 1 stale 2, wait 2000",                  "join 2",          ""),
        ("join 1, lead 1 stale 4",                             "value",           "complete 1"),
        ("join 1, lead 1 stale 4",                             "failure",         "abort 1 Retry"), // It has its answer.
        ("join 1, lead 1 stale 4",                             "passing",         "abort 1 Abandon"), // What is stored stays.
        ("join 1, lead 1 stale 2, wait 2000, join 2",          "passing",         "[2] Value(Computed(1)); complete 1 for nobody else"),
        ("join 1, lead 1 failures 1 stale 4",                  "failure",         "abort 1 Retry"),
        // Invalidated while leading.
        ("join 1, lead 1",                                     "invalidated",     "abort 1 Abandon; detach"), // The message may be old.
        ("join 1, lead 1, invalidated",                        "invalidated",     ""),
        ("join 1, join 2, lead 1, invalidated",                "value",           "[1] Value(Alone(Superseded)); [2] Value(Computed(1))"),
        ("join 1 strict, lead 1, invalidated",                 "value",           "[1] Refused(Superseded)"),
        ("join 1, lead 1 stale 4, invalidated",                "join 2",          ""),
        ("join 1, lead 1 stale 4",                             "declined",        "abort 1 Abandon"),
        ("join 1, join 2, lead 1",                             "declined",        "[1] Ran; abort 1 Abandon"),
        ("join 1, join 2, lead 1, declined",                   "aborted 1",       "begin 2"),
        // Work that has told before its end what it has so far.
        ("join 1, join 2, lead 1",                              "announced",       "[1] Runs(None)"),
        ("join 1, join 2, join 3 strict, lead 1",               "announced open",  "[1] Runs(None); [2] Announced"),
        ("join 1, wait 1000",                                   "announced",       "[1] Runs(Some(Unavailable))"),
        ("join 1",                                              "announced open",  ""),
        ("join 1, lead 1 stale 4",                              "announced open",  ""), // It has its answer.
        ("join 1, lead 1 stale 4, announced open",              "join 2",          "[2] Stale"),
        ("join 1, lead 1, announced",                           "join 2",          ""),
        ("join 1, lead 1, announced open",                      "join 2",          "[2] Announced"),
        ("join 1, lead 1, announced open",                      "join 2 strict",   ""),
        ("join 1, lead 1, announced open, announced",           "join 2",          ""),
        ("join 1, lead 1, announced open, join 2, announced, leave 1", "evict",    ""), // Who was told goes on counting.
        ("join 1, lead 1, leave 1, announced open",             "join 2",          "[2] Announced"),
        ("join 1, join 2, lead 1, announced",                   "value",           "[2] Value(Computed(1)); complete 1"),
        ("join 1, join 2, lead 1, announced",                   "error",           "abort 1 Retry"),
        ("join 1, lead 1, announced open, join 2",              "error",           "abort 1 Retry"), // Nobody is asked for his work.
        ("join 1, lead 1, announced open, join 2, error",       "aborted 1",       ""),
        ("join 1, lead 1, announced",                           "evict",           ""),
        ("join 1, lead 1, announced, leave 1",                  "evict",           "cancel; abort 1 Abandon"),
        ("join 1, lead 1, announced open, join 2, leave 1",     "evict",           ""),
        ("join 1, lead 1, announced open, leave 1, join 2",     "evict",           ""),
        ("join 1, lead 1, announced open, join 2, leave 1, leave 2", "evict",           "cancel; abort 1 Abandon"),
        ("join 1, join 2, lead 1, announced, error, aborted 1, lead 2, leave 2", "evict",           "cancel; abort 2 Abandon"), // Its own audience alone counts.
        // Leading without a lease.
        ("join 1, wait 1000, join 2",                          "value",           "[1] Value(Alone(Unavailable)); [2] Value(Computed(1))"),
        ("join 1, join 2, poisoned 1",                         "value",           "[1] Value(Alone(Poisoned)); [2] Value(Computed(1))"),
        ("join 1, join 2, failed 1",                           "error",           "[1] Ran; begin 2"),
        ("join 1, join 2, failed 1, error, failed 2",          "failure",         "[2] Ran"),
        ("join 1, join 2, join 3, failed 1, error, failed 2",  "failure",         "[2] Ran; [3] Value(Computed(2))"),
        ("join 1, failed 1, leave 1",                          "wait 3000",       "cancel"),
        // A lease that comes late is shared with those who follow it, not with those who come later.
        ("join 1, wait 1000, lead 1",                          "wait 0",          "renew 1"),
        ("join 1, wait 1000, lead 1",                          "value",           "[1] Value(Computed(1)); complete 1 for nobody else"), // Adopted.
        ("join 1, wait 1000, value",                           "lead 1",          "abort 1 Abandon"),
        ("join 1, wait 1000",                                  "failed 1 maybe",  "abort 1 Abandon"),
        ("join 1, wait 1000, follow 1",                        "value",           "[1] Value(Alone(Unavailable))"),
        // Following.
        ("join 1, follow 1",                                   "landed 5 record", "[1] Value(Elsewhere)"),
        ("join 1, follow 1",                                   "landed 4 record", ""),
        ("join 1, follow 1",                                   "landed 5",        "begin 2 following 5"),
        ("join 1, follow 1, wait 900, join 2, landed 5, wait 50", "hit 2 age 500", "[1, 2] Value(Elsewhere)"),
        ("join 1, follow 1",                                   "retry",           "begin 2 following 5"),
        ("join 1, follow 1",                                   "invalidated",     "begin 2 following 5"),
        ("join 1, join 2 strict, follow 1",                    "scattered",       "[2] Refused(Unshareable); [1] Alone(Unshareable)"),
        ("join 1, follow 1",                                   "wait 4000",       "begin 2 following 5"),
        ("join 1, wait 900, follow 1, wait 4000, wait 900, follow 2, wait 4000", "wait 900", ""), // No answer is late.
        ("join 1, follow 1, wait 4000",                        "hit 2 age 100",   "[1] Value(Elsewhere)"),
        ("join 1, follow 1, wait 2000, join 2, wait 2000",     "hit 2 age 3000",  "[1] Value(Elsewhere); begin 3"),
        ("join 1, follow 1, leave 1",                          "wait 4000",       ""),
        ("join 1, follow 1, leave 1",                          "join 2",          "begin 2"),
        // Settling.
        ("join 1, lead 1, value",                              "join 2",          ""),
        ("join 1, lead 1, value, join 2",                      "stored 1",        "begin 2"),
        ("join 1, lead 1, value, join 2",                      "wait 1000",       "work 2"),
        ("join 1 strict, lead 1, value",                       "stored 1",        "[1] Value(Landed)"),
        ("join 1 strict, lead 1, value",                       "superseded 1",    "[1] Refused(Superseded)"),
        ("join 1 strict, lead 1, value, join 2",               "wait 1000",       "[1] Refused(Unavailable); work 2"),
        ("join 1 strict, lead 1, value, leave 1",              "stored 1",        ""),
        ("join 1, lead 1, value, uncompleted 1",               "wait 250",        "complete 1"),
        ("join 1, lead 1, value, uncompleted 1, wait 250, uncompleted 1", "wait 250", ""),
        ("join 1, lead 1, value, uncompleted 1, wait 250, uncompleted 1", "wait 500", "complete 1"),
        ("join 1 strict, lead 1, value, wait 6000",            "uncompleted 1",   "[1] Refused(Unavailable)"),
        ("join 1, join 2, lead 1, error",                      "aborted 1",       "begin 2"),
        ("join 1, join 2, lead 1, error, unaborted 1",         "wait 250",        "abort 1 Retry"),
        ("join 1, lead 1, error",                              "stored 1",        ""),
    ];
    for (before, now, says) in rows {
        let (mut flight, mut clock) = (Flight::new(RULES), Instant::from_micros(1_000_000));
        for command in before.split(", ").filter(|command| !command.is_empty()) {
            run(&mut flight, &mut clock, command);
        }
        assert_eq!(run(&mut flight, &mut clock, now), says, "after [{before}]: {now}");
    }
}
