//! Subscriptions to filters that the server has by itself (DSP0227 10.2.2): the resource of the Subscribe is an
//! instance of `CIM_IndicationFilter`, which brings the query and the namespace.

use smol_str::SmolStr;

use crate::cim::{CimInstance, CimValue};
use crate::soap::{Fault, Subcode};

use super::super::fault::from_lookup;
use super::super::service::Service;
use super::super::target::Resource;
use super::filter::unable;

/// The class of filters, which others may be derived from.
const INDICATION_FILTER: &str = "CIM_IndicationFilter";
/// The names that WQL has as a language of such filters.
const LANGUAGES: [&str; 2] = ["WQL", "http://schemas.microsoft.com/wbem/wsman/1/WQL"];

/// What a filter that is there already says.
pub(super) struct ExistingFilter {
    /// The query.
    pub(super) query: String,
    /// The namespace that it is asked in.
    pub(super) namespace: SmolStr,
}

impl Service {
    /// The filter that the resource of a Subscribe is; none when it is something else.
    pub(super) fn existing_filter(
        &self,
        resource: &Resource,
        has_filter: bool,
    ) -> Result<Option<ExistingFilter>, Fault> {
        let Resource::Cim(target) = resource else { return Ok(None) };
        let Some(class) = target.class.as_ref().filter(|class| class.is_a(INDICATION_FILTER)) else {
            return Ok(None);
        };
        // R10.2.2-2
        if has_filter {
            return Err(Fault::new(Subcode::InvalidParameter)
                .reason("A subscription to an existing filter brings no filter of its own."));
        }
        let instance =
            self.manager.find(&target.cx, class, &target.path(class)).map_err(|error| from_lookup(&error))?;
        read(&instance).map(Some)
    }
}

fn read(filter: &CimInstance) -> Result<ExistingFilter, Fault> {
    let text = |name| filter.get(name).as_str().map(SmolStr::new);
    let language = text("QueryLanguage").unwrap_or_default();
    if !LANGUAGES.iter().any(|known| known.eq_ignore_ascii_case(&language)) {
        return Err(unable(format!("The language of the filter, {language}, is not spoken here.")));
    }
    let namespaces: Vec<SmolStr> = match filter.get("SourceNamespaces") {
        CimValue::Array(items) => items.iter().filter_map(CimValue::as_str).map(SmolStr::new).collect(),
        _ => text("SourceNamespace").into_iter().collect(),
    };
    match (text("Query"), namespaces.as_slice()) {
        (Some(query), [namespace]) => Ok(ExistingFilter { query: query.to_string(), namespace: namespace.clone() }),
        _ => Err(unable("The filter does not have one query for one namespace.")),
    }
}
