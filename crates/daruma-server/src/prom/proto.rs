//! The two protobuf messages of remote write, read by hand: some dozen fields do not pay for a generator.
//!
//! What is read borrows from the request; nothing is allocated by a length that the sender claims. A
//! broken field refuses the whole message; a histogram that is none refuses itself alone.

use daruma_model::wire::{Broken, Fields, Wire, text};
use daruma_model::{HistogramError, HistogramPoint, Time};

use super::histogram::histogram;

/// Histograms of one series in one request, as sent: read, they can take some times as much.
const HISTOGRAM_BYTES_MAX: usize = 4 << 20;

/// One value at one time; staleness markers keep their bits.
pub(super) type Sample = (Time, f64);

/// One series of a request.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pushed<'a> {
    /// Names and values, as sent.
    pub(super) labels: Vec<(&'a str, &'a str)>,
    pub(super) samples: Vec<Sample>,
    /// Native histograms that were sent with it.
    pub(super) histograms: Vec<Result<HistogramPoint, HistogramError>>,
    histogram_bytes: usize,
    /// Exemplars that were sent with it.
    pub(super) exemplars: usize,
    /// What is said of its metric.
    pub(super) described: Option<Described<'a>>,
}

impl Pushed<'_> {
    /// All samples of the series before are gone, and what was sent with them.
    fn clear(&mut self) {
        self.labels.clear();
        self.samples.clear();
        self.histograms.clear();
        (self.histogram_bytes, self.exemplars, self.described) = (0, 0, None);
    }

    fn push_histogram(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.histogram_bytes += bytes.len();
        if self.histogram_bytes > HISTOGRAM_BYTES_MAX {
            return Err(Broken("a series has more than 4 MiB of histograms"));
        }
        self.histograms.push(histogram(bytes)?);
        Ok(())
    }
}

/// What is said of a metric.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Described<'a> {
    /// The metric; `""` where it is that of the series.
    pub(super) metric: &'a str,
    pub(super) kind: &'static str,
    pub(super) help: &'a str,
    pub(super) unit: &'a str,
}

/// The kinds of metric by their number, in both versions.
const KINDS: [&str; 8] =
    ["unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset"];

fn kind(number: u64) -> &'static str {
    usize::try_from(number).ok().and_then(|at| KINDS.get(at)).copied().unwrap_or("unknown")
}

/// Reads a request of the first version; `each` gets one series after the other.
pub(super) fn first<'a>(
    body: &'a [u8],
    mut each: impl FnMut(&Pushed<'a>),
    mut describe: impl FnMut(Described<'a>),
) -> Result<(), Broken> {
    let mut series = Pushed::default();
    for field in Fields(body) {
        match field? {
            (1, Wire::Bytes(bytes)) => {
                series.clear();
                for field in Fields(bytes) {
                    match field? {
                        (1, Wire::Bytes(label)) => series.labels.push(label_of(label)?),
                        (2, Wire::Bytes(bytes)) => series.samples.push(sample(bytes)?),
                        (3, Wire::Bytes(_)) => series.exemplars += 1,
                        (4, Wire::Bytes(bytes)) => series.push_histogram(bytes)?,
                        _ => {}
                    }
                }
                each(&series);
            }
            (3, Wire::Bytes(bytes)) => {
                let mut described = Described { kind: KINDS[0], ..Described::default() };
                for field in Fields(bytes) {
                    match field? {
                        (1, Wire::Varint(number)) => described.kind = kind(number),
                        (2, Wire::Bytes(bytes)) => described.metric = text(bytes)?,
                        (4, Wire::Bytes(bytes)) => described.help = text(bytes)?,
                        (5, Wire::Bytes(bytes)) => described.unit = text(bytes)?,
                        _ => {}
                    }
                }
                describe(described);
            }
            _ => {}
        }
    }
    Ok(())
}

fn label_of(bytes: &[u8]) -> Result<(&str, &str), Broken> {
    let (mut name, mut value) = ("", "");
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => name = text(bytes)?,
            (2, Wire::Bytes(bytes)) => value = text(bytes)?,
            _ => {}
        }
    }
    Ok((name, value))
}

fn sample(bytes: &[u8]) -> Result<Sample, Broken> {
    let (mut time, mut value) = (Time(0), 0.0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Fixed64(bits)) => value = f64::from_bits(bits),
            // Two's complement, as protobuf writes an int64.
            (2, Wire::Varint(ms)) => time = Time(ms as i64),
            _ => {}
        }
    }
    Ok((time, value))
}

/// Reads a request of the second version, in which every text stands once in a table.
pub(super) fn second<'a>(body: &'a [u8], mut each: impl FnMut(&Pushed<'a>)) -> Result<(), Broken> {
    let mut table: Vec<&str> = Vec::new();
    for field in Fields(body) {
        if let (4, Wire::Bytes(bytes)) = field? {
            table.push(text(bytes)?);
        }
    }
    if table.first().is_some_and(|first| !first.is_empty()) {
        return Err(Broken("the first symbol is not empty"));
    }
    let symbol = |at: u64| {
        let at = usize::try_from(at).ok();
        at.and_then(|at| table.get(at)).copied().ok_or(Broken("a symbol that is not in the table"))
    };
    let mut series = Pushed::default();
    let mut refs: Vec<u64> = Vec::new();
    for field in Fields(body) {
        let (5, Wire::Bytes(bytes)) = field? else { continue };
        series.clear();
        refs.clear();
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(packed)) => {
                    for one in Fields(packed).varints() {
                        refs.push(one?);
                    }
                }
                (1, Wire::Varint(one)) => refs.push(one),
                (2, Wire::Bytes(bytes)) => series.samples.push(sample(bytes)?),
                (3, Wire::Bytes(bytes)) => series.push_histogram(bytes)?,
                (4, Wire::Bytes(_)) => series.exemplars += 1,
                (5, Wire::Bytes(bytes)) => {
                    let mut described = Described { kind: KINDS[0], ..Described::default() };
                    for field in Fields(bytes) {
                        match field? {
                            (1, Wire::Varint(number)) => described.kind = kind(number),
                            (3, Wire::Varint(at)) => described.help = symbol(at)?,
                            (4, Wire::Varint(at)) => described.unit = symbol(at)?,
                            _ => {}
                        }
                    }
                    series.described = Some(described);
                }
                _ => {}
            }
        }
        let (pairs, rest) = refs.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Broken("a label without a value"));
        }
        for [name, value] in pairs {
            series.labels.push((symbol(*name)?, symbol(*value)?));
        }
        each(&series);
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use daruma_model::wire::write::{bytes, double, number};
    use proptest::prelude::*;

    pub(crate) fn label(name: &str, value: &str) -> Vec<u8> {
        bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
    }

    pub(crate) fn point(ms: i64, value: f64) -> Vec<u8> {
        bytes(2, &[double(1, value), number(2, ms as u64)].concat())
    }

    type Read = (Vec<(String, String)>, Vec<(i64, u64)>);

    fn read_first(body: &[u8]) -> Result<Vec<Read>, Broken> {
        let mut all = Vec::new();
        first(body, |series| all.push(owned(series)), |_| {})?;
        Ok(all)
    }

    fn owned(series: &Pushed<'_>) -> Read {
        let label = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let labels = series.labels.iter().map(label).collect();
        (labels, series.samples.iter().map(|(time, value)| (time.0, value.to_bits())).collect())
    }

    #[test]
    fn both_versions_say_the_same_and_markers_keep_their_bits() {
        let stale = daruma_model::stale_marker();
        let one = [label("__name__", "up"), label("job", "x"), point(-5, 1.5), point(7, stale)];
        let v1 = [bytes(1, &one.concat()), number(99, 3)].concat();
        let symbols = ["", "__name__", "up", "job", "x"];
        let table: Vec<u8> = symbols.iter().flat_map(|s| bytes(4, s.as_bytes())).collect();
        let refs = bytes(1, &[1, 2, 3, 4]);
        let v2 = [table, bytes(5, &[refs, point(-5, 1.5), point(7, stale)].concat())].concat();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let want = vec![(
            vec![pair("__name__", "up"), pair("job", "x")],
            vec![(-5, 1.5_f64.to_bits()), (7, stale.to_bits())],
        )];
        assert_eq!(read_first(&v1), Ok(want.clone()));
        let mut all = Vec::new();
        second(&v2, |series| all.push(owned(series))).unwrap();
        assert_eq!(all, want);
    }

    #[test]
    fn both_versions_bring_histograms_and_one_that_is_none_leaves_the_others() {
        let whole = super::super::histogram::tests::whole(5);
        let none = number(1, 1);
        let name = label("__name__", "x");
        let v1 = bytes(1, &[name, bytes(4, &whole), bytes(4, &none), point(7, 1.0)].concat());
        let symbols: Vec<u8> =
            ["", "__name__", "x"].iter().flat_map(|s| bytes(4, s.as_bytes())).collect();
        let series = [bytes(1, &[1, 2]), bytes(3, &whole), bytes(3, &none), point(7, 1.0)].concat();
        let v2 = [symbols, bytes(5, &series), bytes(5, &bytes(1, &[1, 2]))].concat();
        let (mut all, mut counts) = (Vec::new(), Vec::new());
        let mut take = |series: &Pushed<'_>| {
            counts.push((series.samples.len(), series.histograms.len()));
            let times = series.histograms.iter().map(|one| one.as_ref().map(|p| p.time.0).ok());
            all.push(times.collect::<Vec<_>>());
        };
        first(&v1, &mut take, |_| {}).unwrap();
        second(&v2, &mut take).unwrap();
        assert_eq!(all, [vec![Some(5), None], vec![Some(5), None], vec![]]);
        assert_eq!(counts, [(1, 2), (1, 2), (0, 0)]);
        let endless = bytes(4, &[0_u8; 1000]).repeat(5000);
        assert!(first(&bytes(1, &endless), |_| {}, |_| {}).is_err());
    }

    #[test]
    fn what_is_broken_is_refused_as_a_whole() {
        for (body, why) in [
            (vec![0x0a, 0xff], "it breaks off in a number"),
            (vec![0x0a, 5, 1], "it breaks off in a field"),
            (vec![0x0b], "a field of an unknown kind"),
            (vec![0xff; 11], "a number is longer than 64 bits"),
            (bytes(1, &label("\u{7f}", "x")[..3]), "it breaks off in a field"),
            (bytes(1, &bytes(1, &bytes(1, &[0xff]))), "a text is not UTF-8"),
        ] {
            assert_eq!(read_first(&body), Err(Broken(why)), "{body:?}");
        }
        for (body, why) in [
            (bytes(4, b"x"), "the first symbol is not empty"),
            (bytes(5, &bytes(1, &[0, 1])), "a symbol that is not in the table"),
            ([bytes(4, b""), bytes(5, &bytes(1, &[0]))].concat(), "a label without a value"),
        ] {
            assert_eq!(second(&body, |_| {}), Err(Broken(why)), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_first(&body);
            let _ = second(&body, |_| {});
        }

        #[test]
        fn a_bent_message_is_read_or_refused(at in 0_usize..60, byte in any::<u8>()) {
            let mut body = bytes(1, &[label("__name__", "up"), label("job", "x"), point(1, 2.0)].concat());
            let at = at % body.len();
            body[at] = byte;
            let _ = read_first(&body);
        }
    }
}
