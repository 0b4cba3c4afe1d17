//! Which place of an HTML document a hole is in, and what may stand there.
//!
//! The reader follows what the template itself says, character by character, as browsers read it; what
//! fills holes is escaped so that it cannot leave its place. So the elements of a document are those
//! its template names, whatever an alert says.

use crate::value::Safe;

/// The longest name, and the longest beginning of an address, that is looked at.
const WORD_MAX: usize = 200;
/// Stands for what must not stand in a style or an address.
const UNSAFE: &str = "unsafe";

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Place {
    #[default]
    Text,
    /// After `<`.
    Open,
    /// After `</`.
    Close,
    TagName,
    /// Between attributes.
    Tag,
    AttrName,
    /// After the name of an attribute and blanks.
    AfterName,
    /// After `=`.
    BeforeValue,
    Value(Quote),
    /// `<!`, `<?`: up to `>`.
    Bogus,
    /// `<!-`, `<!--` and what follows, with the dashes seen.
    CommentStart,
    Comment,
    /// What is not read as markup up to its own end tag.
    Raw,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Quote {
    Double,
    Single,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Means {
    Plain,
    Url,
    Style,
    Script,
}

#[derive(Debug, Default)]
pub(crate) struct Html {
    place: Place,
    closing: bool,
    tag: String,
    attribute: String,
    /// The value so far, as a browser understands it, of attributes that hold an address.
    value: String,
    /// Whether a hole has written to the value.
    filled: bool,
    /// The last characters of a comment or of raw text.
    tail: String,
}

/// Elements whose text is no markup, and holes within are refused; `style` is asked for first.
const RAW: &[&str] = &["script", "xmp", "iframe", "noembed", "noframes", "plaintext"];

/// Elements whose text has no tags but entities.
const TEXT_ONLY: &[&str] = &["title", "textarea"];

const URLS: &[&str] = &[
    "action",
    "archive",
    "background",
    "cite",
    "classid",
    "codebase",
    "data",
    "dynsrc",
    "formaction",
    "href",
    "icon",
    "longdesc",
    "lowsrc",
    "manifest",
    "ping",
    "poster",
    "profile",
    "src",
    "srcset",
    "imagesrcset",
    "usemap",
    "xlink:href",
    "xml:base",
    "xmlns",
];

impl Html {
    pub(crate) fn literal(&mut self, text: &str) -> Result<(), String> {
        text.chars().try_for_each(|c| self.step(c))
    }

    fn step(&mut self, c: char) -> Result<(), String> {
        let blank = c.is_ascii_whitespace();
        match self.place {
            Place::Text => {
                if c == '<' {
                    self.place = Place::Open;
                }
            }
            Place::Open => match c {
                '!' => self.place = Place::CommentStart,
                '?' => self.place = Place::Bogus,
                '/' => self.place = Place::Close,
                c if c.is_ascii_alphabetic() => self.begin(c, false),
                '<' => {}
                _ => self.place = Place::Text,
            },
            Place::Close => match c {
                c if c.is_ascii_alphabetic() => self.begin(c, true),
                '>' => self.place = Place::Text,
                _ => self.place = Place::Bogus,
            },
            Place::TagName => match c {
                '>' => self.opened(),
                c if blank || c == '/' => self.place = Place::Tag,
                c => push(&mut self.tag, c.to_ascii_lowercase()),
            },
            Place::Tag => match c {
                '>' => self.opened(),
                c if blank || c == '/' => {}
                c => {
                    self.attribute.clear();
                    push(&mut self.attribute, c.to_ascii_lowercase());
                    self.place = Place::AttrName;
                }
            },
            Place::AttrName => match c {
                '>' => self.opened(),
                '=' => self.before_value(),
                '/' => self.place = Place::Tag,
                _ if blank => self.place = Place::AfterName,
                c => push(&mut self.attribute, c.to_ascii_lowercase()),
            },
            Place::AfterName => match c {
                '>' => self.opened(),
                '=' => self.before_value(),
                '/' => self.place = Place::Tag,
                _ if blank => {}
                c => {
                    self.attribute.clear();
                    push(&mut self.attribute, c.to_ascii_lowercase());
                    self.place = Place::AttrName;
                }
            },
            Place::BeforeValue => match c {
                '"' => self.place = Place::Value(Quote::Double),
                '\'' => self.place = Place::Value(Quote::Single),
                '>' => self.opened(),
                _ if blank => {}
                c => {
                    self.place = Place::Value(Quote::None);
                    self.valued(c)?;
                }
            },
            Place::Value(quote) => match (quote, c) {
                (Quote::Double, '"') | (Quote::Single, '\'') => self.place = Place::Tag,
                (Quote::None, '>') => self.opened(),
                (Quote::None, _) if blank => self.place = Place::Tag,
                (_, c) => self.valued(c)?,
            },
            Place::Bogus => {
                if c == '>' {
                    self.place = Place::Text;
                }
            }
            Place::CommentStart => {
                push(&mut self.tail, c);
                match self.tail.as_str() {
                    "-" => {}
                    // `<!-->` is a whole comment.
                    "--" => self.place = Place::Comment,
                    _ => {
                        self.tail.clear();
                        self.place = if c == '>' { Place::Text } else { Place::Bogus };
                    }
                }
            }
            Place::Comment => {
                self.tail.push(c);
                if ["-->", "--!>"].iter().any(|end| self.tail.ends_with(end)) {
                    self.tail.clear();
                    self.place = Place::Text;
                } else if self.tail.chars().count() > 4 {
                    self.tail.remove(0);
                }
            }
            Place::Raw => self.raw(c),
        }
        Ok(())
    }

    fn begin(&mut self, c: char, closing: bool) {
        self.tag.clear();
        self.tag.push(c.to_ascii_lowercase());
        self.closing = closing;
        self.place = Place::TagName;
    }

    fn opened(&mut self) {
        let tag = self.tag.as_str();
        let raw = tag == "style" || RAW.contains(&tag) || TEXT_ONLY.contains(&tag);
        self.place = if raw && !self.closing { Place::Raw } else { Place::Text };
        self.tail.clear();
    }

    fn before_value(&mut self) {
        self.place = Place::BeforeValue;
        self.value.clear();
        self.filled = false;
    }

    /// Raw text ends with its own end tag.
    fn raw(&mut self, c: char) {
        let end = format!("</{}", self.tag);
        if self.tail == end && (c.is_ascii_whitespace() || matches!(c, '/' | '>')) {
            self.closing = true;
            self.tail.clear();
            self.place = Place::Tag;
            if c == '>' {
                self.opened();
            }
            return;
        }
        self.tail.push(c.to_ascii_lowercase());
        if !end.starts_with(&self.tail) {
            self.tail.clear();
            if c == '<' {
                self.tail.push('<');
            }
        }
    }

    fn means(&self) -> Means {
        let name = self.attribute.as_str();
        if name == "style" {
            Means::Style
        } else if name.starts_with("on") || ["srcdoc", "content", "http-equiv"].contains(&name) {
            Means::Script
        } else if URLS.contains(&name)
            || name.ends_with(":href")
            || (name.starts_with("data-") && ["src", "uri", "url"].iter().any(|w| name.contains(w)))
        {
            Means::Url
        } else {
            Means::Plain
        }
    }

    /// A character of a value that the template itself says.
    fn valued(&mut self, c: char) -> Result<(), String> {
        if self.means() == Means::Url {
            push(&mut self.value, c);
            if self.filled && c == ':' && !harmless(&self.value) {
                return Err("a hole makes an address of a kind that is not allowed".to_owned());
            }
        }
        Ok(())
    }

    /// `text` as it may stand in the hole here.
    pub(crate) fn hole(&mut self, text: &str, safe: Option<Safe>) -> Result<String, String> {
        match self.place {
            Place::Text if safe == Some(Safe::Html) => {
                // What its author vouches for may open tags, which count.
                self.literal(text)?;
                Ok(text.to_owned())
            }
            Place::Text => Ok(escaped(text)),
            Place::Open => {
                // The `<` before it was text.
                self.place = Place::Text;
                let escaped = escaped(text);
                if escaped.starts_with(|c: char| c.is_ascii_alphabetic() || "!?/".contains(c)) {
                    return Err("a hole cannot be the name of a tag".to_owned());
                }
                if escaped.is_empty() {
                    self.place = Place::Open;
                }
                Ok(escaped)
            }
            // What begins like an end tag must not be completed by a hole.
            Place::Raw if !self.tail.is_empty() && !text.is_empty() => {
                Err("a hole cannot be the name of a tag".to_owned())
            }
            Place::Raw if TEXT_ONLY.contains(&self.tag.as_str()) => Ok(escaped(text)),
            Place::Raw if self.tag == "style" => Ok(styled(text)),
            // Nobody reads it, and nothing can be said there that does not end it.
            Place::Comment | Place::CommentStart | Place::Bogus => Ok(String::new()),
            Place::Value(quote) => self.in_value(text, safe, quote),
            Place::BeforeValue => {
                self.place = Place::Value(Quote::None);
                let value = self.in_value(text, safe, Quote::None)?;
                // Without anything the next word would become the value.
                Ok(if value.is_empty() { "&#xfffd;".to_owned() } else { value })
            }
            Place::Raw => Err(format!("a hole within <{}> cannot be filled safely", self.tag)),
            Place::Close | Place::TagName => Err("a hole cannot be the name of a tag".to_owned()),
            Place::Tag | Place::AttrName | Place::AfterName => {
                Err("a hole cannot be the name of an attribute; put it between quotes".to_owned())
            }
        }
    }

    fn in_value(&mut self, text: &str, safe: Option<Safe>, quote: Quote) -> Result<String, String> {
        let value = match self.means() {
            Means::Plain => text.to_owned(),
            Means::Style => styled(text),
            Means::Script => {
                return Err(format!("a hole within `{}` cannot be filled safely", self.attribute));
            }
            Means::Url => self.address(text, safe),
        };
        let value = escaped(&value);
        Ok(match quote {
            Quote::None => value.chars().fold(String::new(), |mut out, c| {
                if c.is_whitespace() || "=`".contains(c) {
                    out.push_str(&format!("&#{};", u32::from(c)));
                } else {
                    out.push(c);
                }
                out
            }),
            Quote::Double | Quote::Single => value,
        })
    }

    /// `text` as a part of an address, which with all before it must not be of a kind that runs.
    fn address(&mut self, text: &str, safe: Option<Safe>) -> String {
        let within = self.value.contains(['?', '#']);
        let mut address = String::new();
        for c in text.chars() {
            let stays = match c {
                'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '.' | '_' | '~' => true,
                '!' | '#' | '$' | '&' | '*' | '+' | ',' | '/' | ':' | ';' | '=' | '?' | '@'
                | '[' | ']' | '%' => !within || safe == Some(Safe::Url),
                _ => false,
            };
            if stays {
                address.push(c);
            } else {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    address.push_str(&format!("%{byte:02X}"));
                }
            }
        }
        let whole = format!("{}{address}", self.value);
        // Lists of addresses have a kind each.
        let list = self.attribute.contains("srcset") || self.attribute == "ping";
        let fine = if list { !whole.contains([':', ',']) } else { harmless(&whole) };
        if safe != Some(Safe::Url) && !fine {
            address = format!("#{UNSAFE}");
        }
        self.filled |= !address.is_empty();
        address.chars().for_each(|c| push(&mut self.value, c));
        address
    }

    pub(crate) fn end(&self) -> Result<(), String> {
        match self.place {
            Place::Text => Ok(()),
            _ => Err("the markup ends within a tag, a comment or a style".to_owned()),
        }
    }
}

fn push(word: &mut String, c: char) {
    if word.len() < WORD_MAX {
        word.push(c);
    }
}

/// Whether an address is relative, or leads to a page or a mailbox.
fn harmless(address: &str) -> bool {
    // Browsers read over blanks and control characters, and entities are read before.
    let address: String =
        address.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let end = address.find(['/', '?', '#']).unwrap_or(address.len());
    match address[..end].find(':') {
        None => true,
        Some(at) => {
            let scheme = address[..at].to_ascii_lowercase();
            ["http", "https", "mailto", "tel"].contains(&scheme.as_str())
        }
    }
}

/// A word of a style: a colour, a length, a name.
fn styled(text: &str) -> String {
    let fit = |c: char| c.is_ascii_alphanumeric() || "#.% -".contains(c);
    if text.len() <= WORD_MAX && text.chars().all(fit) {
        text.to_owned()
    } else {
        UNSAFE.to_owned()
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // Browsers drop or repair them; a sign in their place is what a reader would see.
            c if c.is_control() && !matches!(c, '\n' | '\t' | '\r') => {
                out.push(char::REPLACEMENT_CHARACTER);
            }
            c => out.push(c),
        }
    }
    out
}
