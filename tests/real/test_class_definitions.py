"""The definition of every class, by pypsrp and as raw bytes: it parses, and it is what the MOF files declare."""

import unittest
import xml.etree.ElementTree as ET
from urllib.parse import urlsplit

import mof
import server
import wsman

URI = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*"
OPTIONS = {"IncludeInheritedElements": "true", "IncludeQualifiers": "true"}
REFERENCES = {"PROPERTY.REFERENCE", "PROPERTY.REFARRAY", "PARAMETER.REFERENCE", "PARAMETER.REFARRAY"}


def typed(element):
    """Type of a property or parameter as in a declaration."""
    reference = element.get("REFERENCECLASS")
    array = "[]" if element.tag.endswith("ARRAY") else ""
    return (f"ref {reference}" if element.tag in REFERENCES else element.get("TYPE").lower()) + array



def declared(definition):
    """Superclass, properties and methods of a `CLASS` element."""
    properties, methods = {}, {}
    for child in definition:
        if child.tag.startswith("PROPERTY"):
            properties[child.get("NAME")] = typed(child)
        elif child.tag == "METHOD":
            parameters = {one.get("NAME"): typed(one) for one in child if one.tag.startswith("PARAMETER")}
            methods[child.get("NAME")] = (child.get("TYPE").lower(), parameters)
    return definition.get("SUPERCLASS"), properties, methods


class Definitions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo()
        cls.addClassCleanup(cls.demo.close)
        cls.demo.start()

    def raw(self, namespace, name):
        """An envelope of our own, over `requests`."""
        envelope = ET.fromstring(wsman.envelope(f"{wsman.X}/Get", URI, None, self.selectors(namespace, name)))
        options = ET.SubElement(envelope.find(f"{{{wsman.S}}}Header"), f"{{{wsman.W}}}OptionSet")
        for option, value in OPTIONS.items():
            ET.SubElement(options, f"{{{wsman.W}}}Option", Name=option).text = value
        answer = self.session.post(ET.tostring(envelope, encoding="unicode"))
        return wsman.read_answer(answer.text, answer.status_code)

    def pypsrp(self, namespace, name):
        from pypsrp.wsman import OptionSet, SelectorSet

        selectors, options = SelectorSet(), OptionSet()
        for one in self.selectors(namespace, name):
            selectors.add_option(*one)
        for one in OPTIONS.items():
            options.add_option(*one)
        return self.client.get(URI, selector_set=selectors, option_set=options)

    @staticmethod
    def selectors(namespace, name):
        return [("__cimnamespace", namespace), ("ClassName", name)]

    def test_a_query_finds_the_classes_it_describes(self):
        """The list that a Windows client filters itself, filtered here."""
        session = self.demo.requests()
        classes = mof.namespaces()[wsman.V2]

        def below(name):
            return name and (name == "CIM_Service" or below(classes[name][0]))

        for condition, expected in {
            "": set(classes),
            "WHERE __THIS ISA 'CIM_Service'": {name for name in classes if below(name)},
            "WHERE __CLASS LIKE 'Msvm[_]%Service'": {
                name for name in classes if name.startswith("Msvm_") and name.endswith("Service")
            },
            "WHERE __SUPERCLASS = 'CIM_Service'": {name for name in classes if classes[name][0] == "CIM_Service"},
        }.items():
            query = f"SELECT * FROM META_CLASS {condition}"
            body = ET.fromstring(
                f'<n:Enumerate xmlns:n="{wsman.N}"><w:OptimizeEnumeration xmlns:w="{wsman.W}"/>'
                f'<w:MaxElements xmlns:w="{wsman.W}">32000</w:MaxElements>'
                f'<w:Filter xmlns:w="{wsman.W}" Dialect="{wsman.WQL}">{query}</w:Filter></n:Enumerate>'
            )
            selectors = [("__cimnamespace", wsman.V2)]
            answer = session.post(wsman.envelope(f"{wsman.N}/Enumerate", URI, body, selectors))
            body = wsman.read_answer(answer.text, answer.status_code)
            found = [one.get("NAME") for one in body.iter("CLASS")]
            self.assertEqual(sorted(expected), sorted(found), query)

    def test_every_class_is_answered_as_its_mof_declares_it(self):
        address = urlsplit(self.demo.https_url)
        credentials = (self.demo.user, self.demo.password, self.demo.ca)
        self.client = wsman.PypsrpSend(address.hostname, address.port, *credentials).wsman
        self.session, wrong, seen = self.demo.requests(), [], 0
        for namespace, classes in mof.namespaces().items():
            for name, expected in classes.items():
                for ask in (self.raw, self.pypsrp):
                    definition = ask(namespace, name)[0]
                    seen += 1
                    if definition.get("NAME") != name or declared(definition) != expected:
                        wrong.append(f"{ask.__name__} {namespace}:{name}: {declared(definition)}, not {expected}")
        self.assertEqual([], wrong[:3], f"{len(wrong)} of {seen}")
        self.assertGreater(seen, 600)
        print(f"\n    {seen} definitions")
