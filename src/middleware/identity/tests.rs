use super::*;

fn names_caller(identity: &Identity, name: &str, line: &str) -> bool {
    identity.names_caller(&name.parse().unwrap(), &line.parse().unwrap())
}

#[test]
fn fields_come_and_go() {
    let identity = Identity::new().field("X-Tenant-User").field("accept").except("X-User").except("x-consumer-id");
    for (name, usual, own) in [
        ("x-tenant-user", false, true),
        ("accept", false, true),
        ("x-user", true, false),
        ("x-consumer-id", true, false),
        ("x-consumer-name", true, true),
        ("x-user-id", true, true),
        ("user-agent", false, false),
    ] {
        assert_eq!(names_caller(&Identity::new(), name, "x"), usual, "{name}");
        assert_eq!(names_caller(&identity, name, "x"), own, "{name}");
    }
}

#[test]
fn the_last_word_on_a_field_counts() {
    assert!(names_caller(&Identity::new().except("x-user").field("x-user"), "x-user", "ada"));
    assert!(!names_caller(&Identity::new().field("x-user").except("x-user"), "x-user", "ada"));
}

#[test]
fn cookies_are_ignored_in_their_field_alone() {
    let identity = Identity::new().ignore_cookies(["_ga"]).ignore_cookies(vec!["theme".to_owned()]);
    assert!(!names_caller(&identity, "cookie", "_ga=1; theme=dark"));
    assert!(names_caller(&identity, "cookie", "_ga=1; sid=1"));
    assert!(names_caller(&identity, "authorization", "_ga=1"));
    assert!(names_caller(&Identity::new(), "cookie", "_ga=1"));
    assert!(names_caller(&Identity::new(), "cookie", ""));
}

#[test]
fn by_the_rfc_authorization_is_up_to_the_response() {
    let rfc = Identity::new().rfc();
    assert!(!names_caller(&rfc, "authorization", "Bearer x"));
    assert!(names_caller(&rfc, "proxy-authorization", "Basic x") && names_caller(&rfc, "cookie", "a=b"));

    let asked: HeaderMap = [(AUTHORIZATION, "Bearer x".parse().unwrap())].into_iter().collect();
    assert!(rfc.has_credentials(&asked) && !rfc.has_credentials(&HeaderMap::new()));
    assert!(!Identity::new().except("authorization").has_credentials(&asked));
    assert!(!rfc.clone().by("secret", identity_fn(|_| Caller::Anybody)).has_credentials(&asked));
}

#[test]
fn a_policy_decides_alone() {
    let asked = identity_fn(|head| match head.uri.path() {
        "/bypass" => Caller::Bypass,
        "/partition" => Caller::Partition(b"ada".into()),
        _ => Caller::Anybody,
    });
    let identity = Identity::new().field("x-tenant-user").by("secret", asked);
    assert!(!names_caller(&identity, "authorization", "Bearer x") && !names_caller(&identity, "x-tenant-user", "ada"));
    let partition = |path: &str| identity.partition(&http::Request::get(path).body(()).unwrap().into_parts().0);
    assert_eq!(partition("/"), Ok(None));
    assert_eq!(partition("/bypass"), Err(Why::Identity));
    assert!(matches!(partition("/partition"), Ok(Some(_))));
    assert_eq!(Identity::new().partition(&http::Request::new(()).into_parts().0), Ok(None));
}

#[test]
#[should_panic = "the secret of `identity`"]
fn no_secret() {
    let _ = Identity::new().by("", identity_fn(|_| Caller::Anybody));
}

#[test]
#[should_panic = "a field of `identity`"]
fn no_field_name() {
    let _ = Identity::new().field("x user");
}

#[test]
#[should_panic = "a field of `identity`"]
fn no_field_name_to_take_off() {
    let _ = Identity::new().except("");
}

#[test]
#[should_panic = "`ignore_cookies`"]
fn no_cookie_name() {
    let _ = Identity::new().ignore_cookies(["_ga", "a=b"]);
}
