//! Fields that may replace the method or the target of a request: the handler may answer another question than the
//! layer reads.

use http::HeaderName;

use super::{SingleflightLayer, mode::Web};

/// Which fields these are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Overrides {
    /// The [usual](is_usual) ones.
    #[default]
    Usual,
    /// These and no others.
    Only(Box<[HeaderName]>),
}

impl Overrides {
    pub(super) fn contains(&self, name: &HeaderName) -> bool {
        match self {
            Self::Usual => is_usual(name.as_str()),
            Self::Only(names) => names.contains(name),
        }
    }
}

/// Told by their first letters from nearly all that requests carry: it is asked of every line.
fn is_usual(name: &str) -> bool {
    name.starts_with("x-")
        && matches!(
            name,
            "x-http-method-override"
                | "x-http-method"
                | "x-method-override"
                | "x-original-url"
                | "x-original-uri"
                | "x-rewrite-url"
        )
}

impl<M: Web> SingleflightLayer<M> {
    /// Fields that may replace the method or the target: a request with one of them goes to the inner service by itself.
    ///
    /// By default `X-HTTP-Method-Override`, `X-HTTP-Method`, `X-Method-Override`, `X-Original-URL`, `X-Original-URI` and
    /// `X-Rewrite-URL`. The list given here takes the place of that one; an empty one turns the check off.
    ///
    /// Leave a field out only if nothing behind the layer reads it, or if a proxy in front removes it from what clients
    /// send. Otherwise one client decides what everybody is answered: with `GET /news` and `X-Original-URL: /error`,
    /// the response to `/error` is stored as `/news`.
    ///
    /// ```
    /// use axum::{Router, body::Body, routing::get};
    /// use http::Request;
    /// use tower::ServiceExt;
    /// use tower_singleflight::{Outcome, SingleflightLayer, Why, backend::Memory};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// // The proxy sets X-Original-URL on every request, and nothing here reads it.
    /// let layer = SingleflightLayer::new(Memory::new()).override_fields(["x-http-method-override", "x-action"]);
    /// let app = Router::new().route("/", get(async || "the same for everybody")).layer(layer);
    ///
    /// for (name, outcome) in [
    ///     ("x-original-url", Outcome::Led),
    ///     ("x-http-method-override", Outcome::Bypassed(Why::Override)),
    ///     ("x-action", Outcome::Bypassed(Why::Override)),
    /// ] {
    ///     let request = Request::get("http://a.test/").header(name, "/").body(Body::empty()).unwrap();
    ///     let response = app.clone().oneshot(request).await.unwrap();
    ///     assert_eq!(response.extensions().get(), Some(&outcome));
    /// }
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If one of `names` is not the name of a field.
    pub fn override_fields<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let name = |name: &str| match HeaderName::try_from(name) {
            Ok(name) => name,
            Err(_) => panic!("`override_fields` holds {name:?}, which is not the name of a field"),
        };
        let names = names.into_iter().map(name).collect();
        self.set(|settings| settings.overrides = Overrides::Only(names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Memory;

    fn set(names: &[&str]) -> Overrides {
        let layer = SingleflightLayer::new(Memory::new()).override_fields(names.iter().copied());
        layer.settings().overrides.clone()
    }

    const USUAL: [&str; 6] = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-original-url",
        "x-original-uri",
        "x-rewrite-url",
    ];

    /// Fails if what is set only adds to the usual list, or an empty list means the usual one.
    #[test]
    fn a_list_replaces_the_one_before() {
        let has = |overrides: &Overrides, name| overrides.contains(&HeaderName::from_static(name));
        for usual in USUAL {
            assert!(has(&Overrides::default(), usual), "{usual}");
            assert!(!has(&set(&["x-action"]), usual) && !has(&set(&[]), usual), "{usual}");
            assert!(has(&set(&[usual]), usual), "{usual}");
        }
        assert!(has(&set(&["x-one", "X-Action"]), "x-action"));
        assert!(!has(&Overrides::default(), "x-action"));
    }

    #[test]
    #[should_panic = "`override_fields` holds \"x action\""]
    fn a_name_that_no_field_has() {
        set(&["x-one", "x action"]);
    }
}
