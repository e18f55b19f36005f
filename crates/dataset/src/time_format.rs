//! Format strings of dates and times, such as `%Y-%m-%d %H:%M:%S`, compiled into items.
//!
//! chrono's parser accepts `2018-8-4` and ` 2018-08-04` for `%Y-%m-%d`. Here every item has its exact width, because a
//! digit that is missing is more likely a damaged file than a style.

/// One part of a format string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormatItem {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    Fraction,
    Offset,
    ZoneName,
    Literal(char),
}

/// Compiles a format string. The error names the directive that is unknown.
pub(crate) fn compile(format: &str) -> Result<Vec<FormatItem>, String> {
    let mut items = Vec::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            items.push(FormatItem::Literal(char));
            continue;
        }
        let directive = chars.next().ok_or_else(|| format!("`{format}` ends after a %"))?;
        match directive {
            'Y' => items.push(FormatItem::Year),
            'm' => items.push(FormatItem::Month),
            'd' => items.push(FormatItem::Day),
            'H' => items.push(FormatItem::Hour),
            'M' => items.push(FormatItem::Minute),
            'S' => items.push(FormatItem::Second),
            'f' => items.push(FormatItem::Fraction),
            'z' => items.push(FormatItem::Offset),
            'Z' => items.push(FormatItem::ZoneName),
            'F' => items.extend(compile("%Y-%m-%d")?),
            'T' => items.extend(compile("%H:%M:%S")?),
            '%' => items.push(FormatItem::Literal('%')),
            unknown => {
                return Err(format!(
                    "`{format}`: unknown directive %{unknown} (known: %Y %m %d %H %M %S %f %z %Z %F %T %%)"
                ));
            }
        }
    }
    Ok(items)
}

/// The first item, other than a literal, that occurs twice.
pub(crate) fn repeated_item(items: &[FormatItem]) -> Option<FormatItem> {
    let is_repeated = |item: &FormatItem| items.iter().filter(|other| *other == item).count() > 1;
    let mut fields = items.iter().filter(|item| !matches!(item, FormatItem::Literal(_)));
    fields.find(|item| is_repeated(item)).copied()
}
