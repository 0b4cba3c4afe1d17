//! Any text is a list of matchers or an error; what is one prints as itself, and asks any value.
#![no_main]

use daruma_model::{Labels, Matcher, Matchers};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let labels = Labels::from([("a", text), ("instance", "web-1"), ("ü", "{\"x\"}")]);
    if let Ok((one, _)) = Matcher::read(text) {
        let printed = one.to_string();
        match Matcher::read(&printed) {
            Ok((again, _)) => assert_eq!(again, one, "{text} prints as {printed}"),
            Err(error) => panic!("{text} prints as {printed}: {error}"),
        }
    }
    let Ok((matchers, _)) = Matchers::read(text) else { return };
    let printed = matchers.to_string();
    match Matchers::read(&printed) {
        Ok((again, _)) => assert_eq!(again, matchers, "{text} prints as {printed}"),
        Err(error) => panic!("{text} prints as {printed}: {error}"),
    }
    let all = matchers.0.iter().all(|matcher| matcher.matches(&labels));
    assert_eq!(matchers.matches(&labels), all);
});
