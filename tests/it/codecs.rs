//! The codecs of rank 0 and 1: `decode(encode(x)) == x`, and what real clients send.

mod cimxml;
mod round_trips;
mod wql;

use std::sync::Arc;

use wsnapd::cim::{NamespaceSchema, mof};

/// A schema with a property of every type, inheritance, references and embedded objects.
fn schema() -> Arc<NamespaceSchema> {
    const MOF: &str = r#"
        #pragma namespace ("root/test")
        Qualifier Key : boolean = false, Scope(property, reference), Flavor(DisableOverride);
        Qualifier Association : boolean = false, Scope(association), Flavor(DisableOverride);
        Qualifier EmbeddedInstance : string = null, Scope(property, parameter, method);
        Qualifier Description : string = null, Scope(any), Flavor(EnableOverride, ToSubclass, Translatable);
        Qualifier In : boolean = true, Scope(parameter), Flavor(DisableOverride);
        Qualifier Out : boolean = false, Scope(parameter), Flavor(DisableOverride);
        Qualifier ValueMap : string[], Scope(property, parameter, method);
        Qualifier Values : string[], Scope(property, parameter, method), Flavor(Translatable);
        class T_Base { [Key] string InstanceID; string Caption; };
        class T_Inner : T_Base { uint16 Level; [EmbeddedInstance("T_Inner")] string Deeper; };
        [Description("A \"thing\".")]
        class T_All : T_Base {
            boolean ABoolean; uint8 AUint8; sint8 ASint8; uint16 AUint16; sint16 ASint16; uint32 AUint32;
            sint32 ASint32; uint64 AUint64; sint64 ASint64; real32 AReal32; real64 AReal64; char16 AChar16;
            string AString; datetime ADateTime; T_Base REF AReference; [EmbeddedInstance("T_Inner")] string AnObject;
            boolean Booleans[]; uint8 Uint8s[]; sint8 Sint8s[]; uint16 Uint16s[]; sint16 Sint16s[]; uint32 Uint32s[];
            sint32 Sint32s[]; uint64 Uint64s[]; sint64 Sint64s[]; real32 Real32s[]; real64 Real64s[]; char16 Char16s[];
            string Strings[]; datetime DateTimes[]; T_Base REF References[];
            [EmbeddedInstance("T_Inner")] string Objects[];
            [ValueMap {"0", "4096"}, Values {"Done", "Started"}]
            uint32 Run([In] T_Base REF Target, [In, Out] string Names[], [In(false), Out] T_Base REF Results[], [In] boolean Force);
        };
    "#;
    let schema = mof::compile(&[("test.mof", MOF)]).unwrap();
    Arc::clone(schema.namespace("root/test").unwrap())
}
