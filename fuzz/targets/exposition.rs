//! Any bytes are metrics or an error with a line, in both formats and both rigours; the first byte says
//! which target labels the scraper puts over them.
#![no_main]

use daruma_collect::exposition::{Format, LABELS_MAX, Parser, Rigour};
use daruma_model::Labels;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let target = Labels::from([("job", "x"), ("instance", "y:1")]);
    let honor = bytes.first().is_some_and(|byte| byte % 2 == 0);
    for format in [Format::Text, Format::OpenMetrics] {
        let mut counts = [None, None];
        for (rigour, count) in [Rigour::Strict, Rigour::Scrape].into_iter().zip(&mut counts) {
            let mut entries = 0;
            for entry in Parser::new(bytes, format, rigour) {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        assert!(error.line >= 1 && error.said.len() < 1024, "{error}");
                        break;
                    }
                };
                entries += 1;
                if let Ok(labels) = entry.labels(&target, honor) {
                    assert!(labels.len() <= LABELS_MAX + target.len(), "{labels}");
                }
            }
            assert!(entries <= bytes.len());
            *count = Some(entries);
        }
        // What the strict reader takes, the scraper takes.
        assert!(counts[0] <= counts[1], "{counts:?}");
    }
});
