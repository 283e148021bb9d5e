//! CIM names and texts as Rust names.

/// The words of a name: `CIMStatusCode` is `CIM`, `Status`, `Code`; whatever is no letter or digit parts words.
fn words(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut words: Vec<String> = Vec::new();
    let mut current = String::new();
    for (index, &c) in characters.iter().enumerate() {
        let previous = index.checked_sub(1).and_then(|index| characters.get(index)).copied().unwrap_or(' ');
        let next = characters.get(index + 1).copied().unwrap_or(' ');
        let starts = c.is_uppercase() && (previous.is_lowercase() || previous.is_ascii_digit() || next.is_lowercase());
        if (starts || !c.is_alphanumeric()) && !current.is_empty() {
            words.push(std::mem::take(&mut current));
        }
        if c.is_alphanumeric() {
            current.push(c);
        }
    }
    if !current.is_empty() {
        words.push(current);
    }
    words
}

/// `Msvm_ComputerSystem` as `MSVM_COMPUTER_SYSTEM`.
pub(super) fn screaming_snake_case(text: &str) -> String {
    words(text).join("_").to_uppercase()
}

/// `SnapshotType` as `snapshot_type`; a keyword gets its escape.
pub(super) fn snake_case(text: &str) -> String {
    let name = words(text).join("_").to_lowercase();
    if matches!(name.as_str(), "type" | "ref" | "use" | "match" | "move" | "loop" | "in" | "impl" | "final") {
        format!("r#{name}")
    } else {
        name
    }
}

/// `Completed with No Error` as `CompletedWithNoError`; what begins with a digit gets an `N` in front.
pub(super) fn camel_case(text: &str) -> String {
    let name: String = words(text)
        .iter()
        .map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            first + &letters.as_str().to_lowercase()
        })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("N{name}") } else { name }
}

/// `Msvm_ConcreteJob` as `ConcreteJob`, `MSFT_SMStorageVolume` as `SmStorageVolume`.
pub(super) fn type_name_of_class(class: &str) -> String {
    match class.split_once('_') {
        Some(("MSFT", rest)) => {
            rest.strip_prefix("SM").map_or_else(|| camel_case(rest), |rest| format!("Sm{}", camel_case(rest)))
        }
        Some((_, rest)) => camel_case(rest),
        None => camel_case(class),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_rust() {
        for (text, constant) in [
            ("Msvm_ComputerSystem", "MSVM_COMPUTER_SYSTEM"),
            ("MSFT_SMStorageVolume", "MSFT_SM_STORAGE_VOLUME"),
            ("CIMStatusCode", "CIM_STATUS_CODE"),
            ("InstanceID", "INSTANCE_ID"),
            ("Vtl2AddressRangeBase", "VTL2_ADDRESS_RANGE_BASE"),
            ("ServiceURI_ip", "SERVICE_URI_IP"),
        ] {
            assert_eq!(screaming_snake_case(text), constant);
        }
        assert_eq!(camel_case("Method Parameters Checked - Job Started"), "MethodParametersCheckedJobStarted");
        assert_eq!(camel_case("2 of 3"), "N2Of3");
        assert_eq!(snake_case("SnapshotType"), "snapshot_type");
        assert_eq!(snake_case("Type"), "r#type");
        assert_eq!(type_name_of_class("MSFT_SMStorageVolume"), "SmStorageVolume");
        assert_eq!(type_name_of_class("Msvm_ConcreteJob"), "ConcreteJob");
    }
}
