//! The fields that say who asks, unless the application knows better.

/// Whether the field `name`, in lower case, says who asks: what a client sends to prove it, and what a proxy in front
/// asserts once it is proved. A field that is unknown here belongs into the key, or the request should bypass.
pub(super) fn listed(name: &str) -> bool {
    let sent = matches!(
        name,
        "authorization"
            | "cookie"
            | "proxy-authorization"
            | "x-api-key"
            | "api-key"
            | "apikey"
            | "x-access-token"
            | "x-auth-token"
            | "x-csrf-token"
            | "x-session-token"
    );
    let asserted = matches!(
        name,
        "client-cert"
            | "remote-user"
            | "x-client-cert"
            | "x-forwarded-access-token"
            | "x-forwarded-client-cert"
            | "x-forwarded-email"
            | "x-forwarded-groups"
            | "x-forwarded-preferred-username"
            | "x-forwarded-user"
            | "x-remote-user"
            | "x-user"
            | "x-user-id"
            | "x-userinfo"
            | "x-webauth-user"
    );
    let family = [
        "cf-access-",
        "ssl-client-",
        "tailscale-user-",
        "x-amzn-oidc-",
        "x-auth-request-",
        "x-authenticated-",
        "x-consumer-",
        "x-goog-authenticated-user-",
        "x-goog-iap-",
        "x-ms-client-principal",
        "x-ms-token-",
        "x-ssl-client-",
    ];
    sent || asserted || family.iter().any(|start| name.starts_with(start))
}
