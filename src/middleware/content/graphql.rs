//! GraphQL over HTTP: which requests only read.

use apollo_parser::{Parser, cst::Definition};

use super::json::{Members, canonical};

/// More than documents written by hand or by tools nest, and far less than a stack holds.
const MAX_DEPTH: usize = 128;

/// The request, if each of its operations is a query. All of it, for a server may read any of it: operation, variables,
/// extensions.
pub(in crate::middleware) fn query(content: &str) -> Option<String> {
    let document: String = serde_json::from_str(Members::of(content)?.get("query")?.get()).ok()?;
    only_queries(&document).then(|| canonical(content)).flatten()
}

/// What is in doubt may change something.
fn only_queries(document: &str) -> bool {
    let tree = Parser::new(document).recursion_limit(MAX_DEPTH).parse();
    let mut operations = 0;
    let reads = tree.document().definitions().all(|definition| match definition {
        Definition::FragmentDefinition(_) => true,
        Definition::OperationDefinition(operation) => {
            operations += 1;
            // Without a word in front, a selection is a query.
            operation.operation_type().is_none_or(|kind| kind.query_token().is_some())
        }
        _ => false,
    });
    tree.errors().next().is_none() && reads && operations > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(document: &str) -> String {
        format!(r#"{{"query":{}}}"#, serde_json::to_string(document).unwrap())
    }

    #[test]
    fn queries_are_reads() {
        for document in [
            "{ a }",
            "query { mutation subscription }",
            "query Q($a: Int = 1) { a(b: $a, c: \"mutation\") @include(if: true) { ...F } } fragment F on T { x }",
            "# mutation { a }\nquery A { a } query B { b }",
            "{ a(text: \"\"\"mutation { b }\"\"\") }",
        ] {
            assert!(query(&request(document)).is_some(), "{document}");
        }
    }

    /// Fails if one operation of several is enough, or if what cannot be parsed is taken for a read.
    #[test]
    fn what_may_change_something_is_none() {
        let deep = "{ a ".repeat(200) + &"}".repeat(200);
        for document in [
            "mutation { a }",
            "subscription { a }",
            "query A { a } mutation B { b }",
            "fragment F on T { x } mutation { a }",
            "fragment F on T { x }",
            "type T { a: Int }",
            "{ a",
            "{ a } }",
            "Mutation { a }",
            "",
            &deep,
        ] {
            assert_eq!(query(&request(document)), None, "{document}");
        }
        for content in
            ["", "[]", "{}", r#"{"query":null}"#, r#"{"query":"{a}","query":"mutation{a}"}"#, r#"[{"query":"{a}"}]"#]
        {
            assert_eq!(query(content), None, "{content}");
        }
    }

    /// Fails if anything but the document and the variables is left out.
    #[test]
    fn everything_in_it_tells_requests_apart() {
        let requests = [
            r#"{"query":"{a}"}"#,
            r#"{"query":"{b}"}"#,
            r#"{"query":"{a}","variables":{"x":1}}"#,
            r#"{"query":"{a}","variables":{"x":2}}"#,
            r#"{"query":"{a}","operationName":"A"}"#,
            r#"{"query":"{a}","extensions":{"x":1}}"#,
        ];
        let keys: Vec<_> = requests.iter().map(|request| query(request).unwrap()).collect();
        for (place, key) in keys.iter().enumerate() {
            assert!(!keys[..place].contains(key), "{key}");
        }
        let shuffled = r#"{ "variables": {"y":[1], "x":2}, "query": "{a}" }"#;
        assert_eq!(query(shuffled), query(r#"{"query":"{a}","variables":{"x":2,"y":[1]}}"#));
    }
}
