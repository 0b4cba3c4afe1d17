//! Protobuf's wire format, field by field: what remote write and the binary exposition are read with.
//!
//! It stands here because two stages read such messages, and a few dozen fields do not pay for a
//! generator. What is read borrows from the bytes; nothing is allocated by a length that they claim. An
//! unknown field is for the caller to step over, as the format demands.

/// Why bytes are not the message they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the protobuf message it claims to be: {0}")]
pub struct Broken(pub &'static str);

/// One field's content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wire<'a> {
    /// An integer, however its type reads it.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Text, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes, which no message that is read here uses.
    Fixed32,
}

impl Wire<'_> {
    /// As a `double`, if it is of its kind.
    #[must_use]
    pub fn double(self) -> Option<f64> {
        match self {
            Wire::Fixed64(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }
}

/// The fields of a message, in order: numbers and contents.
#[derive(Debug, Clone)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next bare number.
    ///
    /// # Errors
    /// [`Broken`] if there is none.
    pub fn varint(&mut self) -> Result<u64, Broken> {
        let mut number = 0_u64;
        for shift in (0..70).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Broken("it breaks off in a number"))?;
            self.0 = rest;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Broken("a number is longer than 64 bits"))
    }

    /// All bytes as numbers that follow one another: packed integers.
    pub fn varints(mut self) -> impl Iterator<Item = Result<u64, Broken>> + use<'a> {
        std::iter::from_fn(move || {
            if self.0.is_empty() {
                return None;
            }
            let one = self.varint();
            if one.is_err() {
                self.0 = &[];
            }
            Some(one)
        })
    }

    /// All bytes as numbers of eight bytes: packed doubles.
    ///
    /// # Errors
    /// [`Broken`] if the last one is cut.
    pub fn doubles(self) -> Result<impl ExactSizeIterator<Item = f64> + use<'a>, Broken> {
        let (whole, rest) = self.0.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Broken("it breaks off in a number"));
        }
        Ok(whole.iter().map(|bytes| f64::from_le_bytes(*bytes)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or(Broken("it breaks off in a field"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next bytes whose length stands before them: a delimited message.
    ///
    /// # Errors
    /// [`Broken`] if they are not all there.
    pub fn delimited(&mut self) -> Result<&'a [u8], Broken> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| Broken("a field without end"))?)
    }

    fn field(&mut self) -> Result<(u64, Wire<'a>), Broken> {
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| Broken("a short number"))?;
                Wire::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => Wire::Bytes(self.delimited()?),
            5 => {
                self.take(4)?;
                Wire::Fixed32
            }
            _ => return Err(Broken("a field of an unknown kind")),
        };
        Ok((key >> 3, wire))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            // What follows a broken field means nothing.
            self.0 = &[];
        }
        Some(field)
    }
}

/// A text field.
///
/// # Errors
/// [`Broken`] if it is not UTF-8.
pub fn text(bytes: &[u8]) -> Result<&str, Broken> {
    std::str::from_utf8(bytes).map_err(|_| Broken("a text is not UTF-8"))
}

/// A `sint64`, which keeps small negative numbers short.
#[must_use]
pub fn zigzag(number: u64) -> i64 {
    ((number >> 1) as i64) ^ -((number & 1) as i64)
}

/// The other direction, for tests that play the sender.
pub mod write {
    /// A bare number.
    #[must_use]
    pub fn varint(mut number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while number >= 0x80 {
            out.push(number as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
        out
    }

    /// Text, a message, or packed numbers.
    #[must_use]
    pub fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
        [varint(field << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
    }

    /// An integer.
    #[must_use]
    pub fn number(field: u64, number: u64) -> Vec<u8> {
        [varint(field << 3), varint(number)].concat()
    }

    /// A `sint32` or `sint64`.
    #[must_use]
    pub fn signed(field: u64, number: i64) -> Vec<u8> {
        [varint(field << 3), zigzag(number)].concat()
    }

    /// A signed number as a bare one.
    #[must_use]
    pub fn zigzag(number: i64) -> Vec<u8> {
        varint((number << 1 ^ number >> 63) as u64)
    }

    /// A `double`.
    #[must_use]
    pub fn double(field: u64, value: f64) -> Vec<u8> {
        [varint(field << 3 | 1), value.to_bits().to_le_bytes().to_vec()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_come_back_as_written(
            fields in prop::collection::vec((1_u64..1000, any::<i64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..9)), 0..9),
        ) {
            let mut body = Vec::new();
            for (field, int, bits, content) in &fields {
                body.extend(write::signed(*field, *int));
                body.extend(write::double(*field, f64::from_bits(*bits)));
                body.extend(write::bytes(*field, content));
            }
            let mut read = Fields(&body);
            for (field, int, bits, content) in &fields {
                let Some(Ok((at, Wire::Varint(number)))) = read.next() else { panic!() };
                prop_assert_eq!((at, zigzag(number)), (*field, *int));
                prop_assert_eq!(read.next(), Some(Ok((*field, Wire::Fixed64(*bits)))));
                prop_assert_eq!(read.next(), Some(Ok((*field, Wire::Bytes(content)))));
            }
            prop_assert_eq!(read.next(), None);
        }

        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Fields(&body).count() <= body.len());
            prop_assert!(Fields(&body).varints().count() <= body.len());
            let _ = Fields(&body).delimited();
            let _ = Fields(&body).doubles().map(Iterator::count);
        }
    }
}
