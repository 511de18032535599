//! ServeGen's recordings of a service's clients: rates and burstiness by ten minutes, lengths by six hours.
//!
//! A folder of `chunk-N-trace.csv` (start in seconds, rate, coefficient of variation, `Gamma` or `Weibull`, shape, scale;
//! no pattern where the client is idle) and `chunk-N-dataset.json` (start in seconds → field → `{tokens: probability}`).
//! Each client draws its own gaps, in proportion to its rate, and its own lengths, field by field.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::path::{Path, PathBuf};

use roofline_core::error::Error;
use rustc_hash::FxHashMap;

use super::draws::{Draws, Purpose};
use crate::error::Result;
use crate::trace::TOKENS_MAX;

/// Everybody who sends requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Clients {
    clients: Vec<Client>,
    /// Rates are multiplied by this.
    pub scale: f64,
    /// The second of the recording at which traffic begins.
    pub from_s: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct Client {
    name: String,
    /// In order; each lasts until the next.
    windows: Vec<Window>,
    lengths: Vec<(f64, Fields)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    start_s: f64,
    rate: f64,
    gaps: Gaps,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Gaps {
    Gamma(f64),
    Weibull(f64),
}

/// What lengths are drawn from, as values and their cumulative probabilities.
#[derive(Debug, Clone, PartialEq, Default)]
struct Fields(FxHashMap<String, (Vec<u32>, Vec<f64>)>);

/// Fields that are understood; `reason_ratio` is a share of the answer, which it does not change.
const FIELDS: [&str; 10] = [
    "input_tokens",
    "text_tokens",
    "output_tokens",
    "reason_ratio",
    "image_tokens",
    "audio_tokens",
    "video_tokens",
    "image_count",
    "audio_count",
    "video_count",
];
/// Seconds of a window where no next one says how long it lasts.
const WINDOW_S: f64 = 600.0;

/// What a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sent {
    pub arrival_s_bits: u64,
    pub client: u32,
    pub prompt: u32,
    pub output: u32,
    pub images: u32,
    pub image_tokens: u32,
    pub audio_tokens: u32,
    pub video_tokens: u32,
}

impl Clients {
    /// Reads a folder.
    ///
    /// # Errors
    /// A folder without clients; a file that is not as ServeGen writes it, with its line or its place.
    pub fn read(field: &str, folder: &str) -> Result<Clients> {
        let refused = |value: String, hint: &str| {
            Error::spec(field, "must be a folder of chunk-N-trace.csv and chunk-N-dataset.json", value, hint)
        };
        let listed = fs::read_dir(folder).map_err(|why| refused(format!("{folder}: {why}"), ""))?;
        let mut traces: Vec<(u64, PathBuf)> = Vec::new();
        for entry in listed.filter_map(std::result::Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("chunk-").and_then(|rest| rest.strip_suffix("-trace.csv"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                traces.push((number, entry.path()));
            }
        }
        traces.sort();
        if traces.is_empty() {
            let hint = "one folder of ServeGen's `data`, for example `data/reason/deepseek-r1`";
            return Err(refused(format!("{folder}, which holds no clients"), hint).into());
        }
        let clients = traces.into_iter().map(|(number, path)| {
            let lengths = path.with_file_name(format!("chunk-{number}-dataset.json"));
            let client = Client {
                name: format!("chunk-{number}"),
                windows: windows(field, &path)?,
                lengths: datasets(field, &lengths)?,
            };
            client.check(field, &lengths)
        });
        Ok(Clients { clients: clients.collect::<Result<_>>()?, scale: 1.0, from_s: 0.0 })
    }

    /// The names of clients, by their numbers.
    pub(super) fn names(&self) -> Vec<String> {
        self.clients.iter().map(|client| client.name.clone()).collect()
    }

    /// When the recording ends, seconds.
    pub fn end_s(&self) -> f64 {
        self.clients.iter().map(Client::end_s).fold(0.0, f64::max)
    }

    /// Requests a second between two seconds of the recording, as recorded.
    pub fn rate(&self, from_s: f64, to_s: f64) -> f64 {
        let sent = |client: &Client| -> f64 {
            let overlap = |place: usize| {
                let window = &client.windows[place];
                let end = client.windows.get(place + 1).map_or(client.end_s(), |next| next.start_s);
                (end.min(to_s) - window.start_s.max(from_s)).max(0.0) * window.rate
            };
            (0..client.windows.len()).map(overlap).sum()
        };
        self.clients.iter().map(sent).sum::<f64>() / (to_s - from_s).max(f64::MIN_POSITIVE)
    }

    /// Whether prompts hold images, sound or moving pictures.
    pub(super) fn has_media(&self) -> bool {
        let media = |(_, fields): &(f64, Fields)| fields.0.contains_key("image_tokens");
        self.clients.iter().any(|client| client.lengths.iter().any(media))
    }

    /// Draws what everybody sends, in order of arrival.
    pub(super) fn stream(&self, seed: u64) -> Sending<'_> {
        let mut senders: Vec<Sender<'_>> = (self.clients.iter().enumerate())
            .map(|(number, client)| Sender::new(client, self, seed, number as u64))
            .collect();
        let due = senders
            .iter_mut()
            .enumerate()
            .filter_map(|(number, sender)| Some(Reverse((sender.next()?.to_bits(), number as u32))));
        Sending { due: due.collect(), senders }
    }
}

impl Client {
    fn end_s(&self) -> f64 {
        let length = match self.windows[..] {
            [.., before, last] => last.start_s - before.start_s,
            _ => WINDOW_S,
        };
        self.windows.last().map_or(0.0, |last| last.start_s + length)
    }

    /// A client that sends must have lengths.
    fn check(self, field: &str, lengths: &Path) -> Result<Client> {
        let sends = self.windows.iter().any(|window| window.rate > 0.0);
        for (_, fields) in self.lengths.iter().filter(|_| sends) {
            let prompt = fields.0.contains_key("input_tokens") || fields.0.contains_key("text_tokens");
            if !prompt || !fields.0.contains_key("output_tokens") {
                let must = "must have input_tokens (or text_tokens) and output_tokens in every window";
                return Err(Error::spec(field, must, lengths.display(), "").into());
            }
        }
        if sends && self.lengths.is_empty() {
            return Err(Error::spec(field, "must have lengths for each client", lengths.display(), "").into());
        }
        Ok(self)
    }
}

/// One client while it sends.
#[derive(Debug)]
struct Sender<'a> {
    client: &'a Client,
    scale: f64,
    from_s: f64,
    now_s: f64,
    window: usize,
    gaps: Draws,
    prompts: Draws,
    outputs: Draws,
    began: bool,
}

impl<'a> Sender<'a> {
    fn new(client: &'a Client, clients: &Clients, seed: u64, number: u64) -> Sender<'a> {
        let stream = |purpose| Draws::numbered(seed, purpose, number);
        let from_s = clients.from_s;
        let window = client.windows.partition_point(|window| window.start_s <= from_s).saturating_sub(1);
        Sender {
            client,
            scale: clients.scale,
            from_s,
            now_s: from_s.max(client.windows.first().map_or(0.0, |first| first.start_s)),
            window,
            gaps: stream(Purpose::Arrivals),
            prompts: stream(Purpose::Prompts),
            outputs: stream(Purpose::Outputs),
            began: false,
        }
    }

    /// When it sends next, seconds since traffic began; never again where it has nothing more to send.
    fn next(&mut self) -> Option<f64> {
        let mut gap: Option<f64> = None;
        loop {
            let window = self.client.windows.get(self.window)?;
            let end_s =
                self.client.windows.get(self.window + 1).map_or(self.client.end_s(), |next| next.start_s);
            let rate = window.rate * self.scale;
            if rate > 0.0 {
                // A recording begins anywhere within a gap.
                let begin = if self.began { 1.0 } else { self.gaps.uniform() };
                self.began = true;
                let left = gap.unwrap_or_else(|| begin * window.gaps.draw(&mut self.gaps));
                let at = self.now_s + left / rate;
                if at < end_s {
                    self.now_s = at;
                    return Some(at - self.from_s);
                }
                gap = Some(left - (end_s - self.now_s) * rate);
            }
            self.now_s = end_s;
            self.window += 1;
        }
    }

    fn lengths(&mut self) -> Sent {
        let place = self.client.lengths.partition_point(|(start_s, _)| *start_s <= self.now_s).max(1);
        let Some((_, fields)) = self.client.lengths.get(place - 1) else { return Sent::default() };
        let text = fields.draw(
            if fields.0.contains_key("input_tokens") { "input_tokens" } else { "text_tokens" },
            &mut self.prompts,
        );
        let media = |kind: &str, stream: &mut Draws| {
            let count = fields.draw(&format!("{kind}_count"), stream);
            let tokens = (0..count).map(|_| fields.draw(&format!("{kind}_tokens"), stream));
            (count, tokens.fold(0u32, u32::saturating_add))
        };
        let (images, image_tokens) = media("image", &mut self.prompts);
        let (_, audio_tokens) = media("audio", &mut self.prompts);
        let (_, video_tokens) = media("video", &mut self.prompts);
        let seen = image_tokens.saturating_add(audio_tokens).saturating_add(video_tokens);
        Sent {
            prompt: text.saturating_add(seen).clamp(1, TOKENS_MAX),
            output: fields.draw("output_tokens", &mut self.outputs).min(TOKENS_MAX),
            images,
            image_tokens,
            audio_tokens,
            video_tokens,
            ..Sent::default()
        }
    }
}

/// All clients while they send.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    senders: Vec<Sender<'a>>,
    /// When each sends next: times above 0 are in the order of their bits.
    due: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Iterator for Sending<'_> {
    type Item = Sent;

    fn next(&mut self) -> Option<Sent> {
        let Reverse((arrival_s_bits, client)) = self.due.pop()?;
        let sender = &mut self.senders[client as usize];
        let sent = Sent { arrival_s_bits, client, ..sender.lengths() };
        if let Some(next) = sender.next() {
            self.due.push(Reverse((next.to_bits(), client)));
        }
        Some(sent)
    }
}

impl Gaps {
    /// A gap of mean 1.
    fn draw(self, stream: &mut Draws) -> f64 {
        match self {
            Gaps::Gamma(shape) => stream.gamma(shape) / shape,
            Gaps::Weibull(shape) => {
                libm::exp(libm::log(stream.exponential()) / shape) / libm::tgamma(1.0 + 1.0 / shape)
            }
        }
    }
}

impl Fields {
    /// Draws a field; 0 where it is not there.
    fn draw(&self, name: &str, stream: &mut Draws) -> u32 {
        let Some((values, cumulative)) = self.0.get(name) else { return 0 };
        values[stream.weighted(cumulative)]
    }
}

/// Reads a client's rates.
fn windows(field: &str, path: &Path) -> Result<Vec<Window>> {
    let text = text_of(field, path)?;
    let mut windows: Vec<Window> = Vec::new();
    for (line, row) in (1..).zip(text.lines()).filter(|(_, row)| !row.trim().is_empty()) {
        let wrong =
            |must: &str| Error::spec(field, must, format!("{}, line {line}: {row}", path.display()), "");
        let cells: Vec<&str> = row.split(',').map(str::trim).collect();
        let [start, rate, _, pattern, shape, _] = cells[..] else {
            return Err(wrong("must have rows of start,rate,cv,pattern,shape,scale").into());
        };
        let number = |text: &str| text.parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0);
        let (Some(start_s), Some(rate), Some(shape)) = (number(start), number(rate), number(shape)) else {
            return Err(wrong("must have numbers, none negative").into());
        };
        let gaps = match pattern {
            "Gamma" if shape > 0.0 => Gaps::Gamma(shape),
            "Weibull" if shape > 0.0 => Gaps::Weibull(shape),
            "" => Gaps::Gamma(1.0),
            _ => return Err(wrong("must have Gamma or Weibull with a shape above 0, or no pattern").into()),
        };
        let rate = if pattern.is_empty() { 0.0 } else { rate };
        if windows.last().is_some_and(|last| last.start_s >= start_s) {
            return Err(wrong("must have windows in order").into());
        }
        windows.push(Window { start_s, rate, gaps });
    }
    Ok(windows)
}

/// Reads a client's lengths.
fn datasets(field: &str, path: &Path) -> Result<Vec<(f64, Fields)>> {
    let text = text_of(field, path)?;
    let wrong =
        |must: &str, value: String| Error::spec(field, must, format!("{}: {value}", path.display()), "");
    let read: std::result::Result<FxHashMap<String, FxHashMap<String, String>>, _> =
        serde_json::from_str(&text);
    let windows = read.map_err(|why| wrong("must hold windows of fields", why.to_string()))?;
    let mut sets = Vec::new();
    for (start, named) in windows {
        let Ok(start_s) = start.parse::<f64>() else {
            return Err(wrong("must name windows by their second", start).into());
        };
        let mut fields = Fields::default();
        for (name, text) in named {
            if !FIELDS.contains(&name.as_str()) {
                return Err(wrong("must have fields that are known", name).into());
            }
            // A field of which nothing was seen has no distribution.
            if name == "reason_ratio" || text.trim() == "{}" {
                continue;
            }
            let drawn = distribution(&text).ok_or_else(|| {
                wrong("must have distributions {tokens: probability, …}", format!("{start}.{name}"))
            })?;
            fields.0.insert(name, drawn);
        }
        // A window in which nothing was sent has no lengths.
        if !fields.0.is_empty() {
            sets.push((start_s, fields));
        }
    }
    sets.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(sets)
}

/// Reads `{50: 0.25, 60: 0.75}` into values and cumulative probabilities.
fn distribution(text: &str) -> Option<(Vec<u32>, Vec<f64>)> {
    let inside = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (mut values, mut cumulative, mut sum) = (Vec::new(), Vec::new(), 0.0);
    for pair in inside.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (value, probability) = pair.split_once(':')?;
        let probability: f64 = probability.trim().parse().ok()?;
        let value: f64 = value.trim().parse().ok()?;
        if !(probability.is_finite() && probability >= 0.0 && value >= 0.0 && value <= f64::from(TOKENS_MAX))
        {
            return None;
        }
        sum += probability;
        values.push(value.round() as u32);
        cumulative.push(sum);
    }
    (sum > 0.0).then_some((values, cumulative))
}

fn text_of(field: &str, path: &Path) -> Result<String> {
    let text = fs::read_to_string(path);
    text.map_err(|why| {
        Error::spec(field, "must be files that can be read", format!("{}: {why}", path.display()), "").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, trace: &str, dataset: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("servegen-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("chunk-3-trace.csv"), trace).unwrap();
        fs::write(folder.join("chunk-3-dataset.json"), dataset).unwrap();
        folder
    }

    const LENGTHS: &str = r#"{"0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{7: 1.0}", "reason_ratio": "{0.5: 1.0}"}}"#;

    fn refused(name: &str, trace: &str, dataset: &str) -> String {
        let folder = folder(name, trace, dataset);
        let error = Clients::read("servegen", folder.to_str().unwrap()).unwrap_err().to_string();
        fs::remove_dir_all(&folder).unwrap();
        error
    }

    #[test]
    fn a_client_sends_at_its_rates_and_rests_where_it_has_none() {
        let folder = folder("rates", "0,5,1,Gamma,1,1\n600,0,0,,0,0\n1200,1,1,Weibull,1,1\n", LENGTHS);
        let clients = Clients::read("servegen", folder.to_str().unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((clients.end_s(), clients.names()), (1800.0, vec!["chunk-3".to_string()]));
        assert_eq!(clients.rate(0.0, 1800.0), 2.0);
        let sent: Vec<Sent> = clients.stream(4).collect();
        let second = |sent: &Sent| f64::from_bits(sent.arrival_s_bits);
        let between = |from, to| sent.iter().filter(|sent| (from..to).contains(&second(sent))).count();
        assert!(between(0.0, 600.0).abs_diff(3000) < 220, "{}", between(0.0, 600.0));
        assert_eq!(between(600.0, 1200.0), 0);
        assert!(between(1200.0, 1800.0).abs_diff(600) < 100, "{}", between(1200.0, 1800.0));
        assert!(sent.windows(2).all(|pair| second(&pair[0]) <= second(&pair[1])));
        assert!(sent.iter().all(|sent| sent.output == 7 && [10, 20].contains(&sent.prompt)));
        let later = Clients { from_s: 1500.0, scale: 2.0, ..clients };
        assert!(later.stream(4).count().abs_diff(600) < 100);
    }

    #[test]
    fn images_are_part_of_the_prompt() {
        let media = r#"{"0": {"text_tokens": "{5: 1.0}", "image_tokens": "{100: 1.0}", "image_count": "{2: 1.0}", "output_tokens": "{7: 1.0}"}}"#;
        let folder = folder("media", "0,5,1,Gamma,1,1\n", media);
        let clients = Clients::read("servegen", folder.to_str().unwrap()).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        let first = clients.stream(1).next().unwrap();
        assert_eq!((first.prompt, first.images, first.image_tokens), (205, 2, 200));
        assert!(clients.has_media());
    }

    #[test]
    fn mistakes_name_the_file_and_the_line() {
        let absent = Clients::read("servegen", "/nowhere").unwrap_err().to_string();
        assert!(absent.starts_with("servegen must be a folder of chunk-N-trace.csv and"), "{absent}");
        let ends = |text: String, end: &str| assert!(text.ends_with(end), "{text}");
        ends(refused("cells", "0,5\n", LENGTHS), "chunk-3-trace.csv, line 1: 0,5");
        ends(refused("numbers", "0,x,1,Gamma,1,1\n", LENGTHS), "line 1: 0,x,1,Gamma,1,1");
        ends(refused("pattern", "0,1,1,Pareto,1,1\n", LENGTHS), "line 1: 0,1,1,Pareto,1,1");
        ends(refused("order", "5,1,1,Gamma,1,1\n5,1,1,Gamma,1,1\n", LENGTHS), "line 2: 5,1,1,Gamma,1,1");
        let wrong = "0,1,1,Gamma,1,1\n";
        ends(refused("field", wrong, r#"{"0": {"smells": "{1: 1.0}"}}"#), "chunk-3-dataset.json: smells");
        ends(refused("text", wrong, r#"{"0": {"input_tokens": "1"}}"#), "0.input_tokens");
        ends(refused("window", wrong, r#"{"x": {"input_tokens": "{1: 1.0}"}}"#), "dataset.json: x");
        ends(refused("fields", wrong, r#"{"0": {"input_tokens": "{1: 1.0}"}}"#), "chunk-3-dataset.json");
        ends(refused("none", wrong, "{}"), "chunk-3-dataset.json");
        assert!(refused("json", wrong, "[]").contains("must hold windows of fields"));
    }
}
