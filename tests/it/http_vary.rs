//! Responses that vary: each request gets what was selected for it, and each variant is worked on once.

use axum::{Router, extract::Request};
use tokio::time::{Instant, sleep};
use tower_singleflight::{Outcome, SingleflightLayer, Why, backend::Memory};

use crate::http_support::{Calls, app, get, get_with, outcome, secs, send, text, together};

const URI: &str = "http://a.test/report";

fn said(request: &Request, name: &str) -> String {
    let lines = request.headers().get_all(name).iter().map(|line| line.to_str().unwrap());
    format!("{name}: {:?}", lines.collect::<Vec<_>>())
}

/// Two replicas of an application whose every response varies on `name` and says what the request said there.
fn fleet(calls: &Calls, ttl: u64, name: &'static str) -> [Router; 2] {
    let memory = Memory::new();
    [memory.replica(), memory].map(|memory| {
        let layer = SingleflightLayer::new(memory).result_ttl(secs(ttl));
        app(&layer, calls, move |request, _| ([("vary", name)], said(request, name)))
    })
}

/// As many requests for each of the languages, at all replicas, and what each of them should get.
fn requests(fleet: &[Router], each: usize, languages: &[&str]) -> Vec<(Router, Request)> {
    let all = fleet.iter().flat_map(|app| (0..each).map(move |_| app));
    all.flat_map(|app| languages.iter().map(|language| (app.clone(), get_with(URI, "accept-language", language))))
        .collect()
}

async fn assert_each_its_own(requests: Vec<(Router, Request)>) -> Vec<Outcome> {
    let expected: Vec<_> = requests.iter().map(|(_, request)| said(request, "accept-language")).collect();
    let mut outcomes = Vec::new();
    for (response, expected) in together(requests).await.into_iter().zip(expected) {
        outcomes.push(outcome(&response));
        assert_eq!(text(response).await, expected);
    }
    outcomes
}

const LANGUAGES: [&str; 4] = ["de", "da", "en", "fr"];

#[tokio::test(start_paused = true)]
async fn a_burst_of_variants_costs_one_execution_each_in_two_rounds_and_then_in_one() {
    for replicas in [1, 2] {
        let calls = Calls::default();
        let fleet = &fleet(&calls, 0, "accept-language")[..replicas];
        for (rounds, executions) in [(2, 4), (1, 8), (1, 12)] {
            let start = Instant::now();
            assert_each_its_own(requests(fleet, 10, &LANGUAGES)).await;
            assert_eq!((start.elapsed().as_secs(), calls.count()), (rounds, executions), "on {replicas}");
            sleep(secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_variant_is_kept() {
    let calls = Calls::default();
    let fleet = fleet(&calls, 60, "accept-language");
    assert_each_its_own(requests(&fleet, 3, &LANGUAGES)).await;
    assert_eq!(calls.count(), 4);
    for _ in 0..2 {
        let outcomes = assert_each_its_own(requests(&fleet, 2, &LANGUAGES)).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Hit { .. })), "{outcomes:?}");
    }
    // A replica that has seen none of it learns of it from the first record.
    assert_eq!(calls.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn absent_empty_and_repeated_fields_are_variants_of_their_own() {
    let calls = Calls::default();
    let fleet = fleet(&calls, 60, "accept-language");
    let requests = || {
        let mut twice = get_with(URI, "accept-language", "de");
        twice.headers_mut().append("accept-language", "da".parse().unwrap());
        [get(URI), get_with(URI, "accept-language", ""), get_with(URI, "accept-language", "de"), twice]
    };
    for app in &fleet {
        assert_each_its_own(requests().into_iter().map(|request| (app.clone(), request)).collect()).await;
    }
    assert_eq!(calls.count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_target_with_too_many_variants_leaves_the_rest_to_themselves() {
    let calls = Calls::default();
    let [app, other] = fleet(&calls, 60, "x-anything");
    for number in 0..40 {
        let response = send(&app, get_with(URI, "x-anything", &number.to_string())).await;
        let expected = if number < 32 { Outcome::Led } else { Outcome::Bypassed(Why::Variants) };
        assert_eq!(outcome(&response), expected, "{number}");
    }
    // Those that are known go on being hits, here and elsewhere.
    for app in [&app, &other] {
        let hit = send(app, get_with(URI, "x-anything", "7")).await;
        assert!(matches!(outcome(&hit), Outcome::Hit { .. }));
    }
    // And make room for others when they are over.
    sleep(secs(61)).await;
    assert_eq!(outcome(&send(&app, get_with(URI, "x-anything", "100")).await), Outcome::Led);
}

#[tokio::test(start_paused = true)]
async fn fields_that_should_have_been_named_select_too() {
    for (name, answer) in [("origin", "access-control-allow-origin"), ("accept-encoding", "content-encoding")] {
        let calls = Calls::default();
        let memory = Memory::new();
        let fleet = [memory.replica(), memory].map(|memory| {
            let layer = SingleflightLayer::new(memory).result_ttl(secs(60));
            app(&layer, &calls, move |request, _| {
                let asked = request.headers()[name].to_str().unwrap().to_owned();
                ([(answer, asked.clone())], asked)
            })
        });
        for app in &fleet {
            let requests = ["gzip", "br", "gzip"].map(|asked| (app.clone(), get_with(URI, name, asked)));
            for (response, asked) in together(requests).await.into_iter().zip(["gzip", "br", "gzip"]) {
                assert_eq!(response.headers()[answer], asked);
                assert_eq!(text(response).await, asked);
            }
        }
        assert_eq!(calls.count(), 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_it_varies_on_may_change() {
    let calls = Calls::default();
    let layer = SingleflightLayer::new(Memory::new()).result_ttl(secs(5));
    let app = app(&layer, &calls, |request, call| {
        let name = if call <= 2 { "accept-language" } else { "x-tenant" };
        ([("vary", name)], said(request, name))
    });
    for language in ["de", "da"] {
        send(&app, get_with(URI, "accept-language", language)).await;
    }
    sleep(secs(6)).await;
    for _ in 0..2 {
        for tenant in ["a", "b"] {
            let response = send(&app, get_with(URI, "x-tenant", tenant)).await;
            assert_eq!(text(response).await, format!("x-tenant: [{tenant:?}]"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_variant_is_served_to_those_it_was_selected_for_alone() {
    let calls = Calls::default();
    let memory = Memory::new();
    let app = |memory: &Memory| {
        let layer = SingleflightLayer::new(memory.clone()).result_ttl(secs(5)).warmup_window(secs(60));
        app(&layer, &calls, |request, _| ([("vary", "accept-language")], said(request, "accept-language")))
    };
    send(&app(&memory), get_with(URI, "accept-language", "de")).await;
    sleep(secs(6)).await;
    // A replica that knows of no variants finds the German record stale, and is to refresh it.
    let newcomer = app(&memory.replica());
    assert_each_its_own(requests(&[newcomer], 3, &["da"])).await;
    assert_each_its_own(requests(&[app(&memory)], 1, &["de", "da"])).await;
}
