package dcap

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/phala-go/phala/attest/fault"
)

// Status is a TCB status as Intel names it.
type Status string

// The statuses of TCB levels, from best to worst.
const (
	UpToDate                          Status = "UpToDate"
	SWHardeningNeeded                 Status = "SWHardeningNeeded"
	ConfigurationNeeded               Status = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded Status = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                         Status = "OutOfDate"
	OutOfDateConfigurationNeeded      Status = "OutOfDateConfigurationNeeded"
	Revoked                           Status = "Revoked"
)

// What a status asks for. A status is a set of these.
const (
	needHardening = 1 << iota
	needConfiguration
	needUpdate
	isRevoked
)

var statusBits = map[Status]int{
	UpToDate:                          0,
	SWHardeningNeeded:                 needHardening,
	ConfigurationNeeded:               needConfiguration,
	ConfigurationAndSWHardeningNeeded: needConfiguration | needHardening,
	OutOfDate:                         needUpdate,
	OutOfDateConfigurationNeeded:      needUpdate | needConfiguration,
	Revoked:                           isRevoked,
}

// Converge is the status of a platform of which one part has status a and
// another b: whatever either needs, the whole needs, so the worse always
// counts. Where Intel's verification library defines a result (platform with
// TDX module, platform with quoting enclave), this is the same one: an
// out-of-date module makes UpToDate and SWHardeningNeeded OutOfDate, and both
// Configuration statuses OutOfDateConfigurationNeeded.
func Converge(a, b Status) Status {
	bits := statusBits[a] | statusBits[b]
	switch {
	case bits&isRevoked != 0:
		return Revoked
	case bits&needUpdate != 0 && bits&needConfiguration != 0:
		return OutOfDateConfigurationNeeded
	case bits&needUpdate != 0:
		return OutOfDate
	case bits == needConfiguration|needHardening:
		return ConfigurationAndSWHardeningNeeded
	case bits == needConfiguration:
		return ConfigurationNeeded
	case bits == needHardening:
		return SWHardeningNeeded
	}
	return UpToDate
}

// standing is what a TCB level says once one has matched it.
type standing struct {
	status     Status
	date       time.Time
	advisories []string
}

type tcbLevel struct {
	sgx, tdx [16]uint8
	pceSVN   uint16
	standing
}

type svnLevel struct {
	svn uint16
	standing
}

// moduleIdentity describes a TDX module; levels is empty for the entry that
// belongs to module version 0.
type moduleIdentity struct {
	id             string
	mrSigner       [48]byte
	attributes     [8]byte
	attributesMask [8]byte
	levels         []svnLevel
}

// tcbInfo is Intel's TCB info, version 3.
type tcbInfo struct {
	tee        TEE
	issueDate  time.Time
	nextUpdate time.Time
	fmspc      [6]byte
	pceID      [2]byte
	evaluation uint32
	module     *moduleIdentity // TDX
	modules    []moduleIdentity
	levels     []tcbLevel
}

// Bounds on signed documents, far above what Intel publishes.
const (
	maxLevels     = 64
	maxModules    = 16
	maxAdvisories = 128
)

func parseTCBInfo(b []byte) (*tcbInfo, error) {
	v, err := parseJSON(b)
	if err != nil {
		return nil, fault.Wrap(fault.TCBInfoMalformed, "", err)
	}
	o := v.object("TCB info")
	t := new(tcbInfo)
	switch id := o.str("id"); id {
	case "SGX":
		t.tee = SGX
	case "TDX":
		t.tee = TDX
	default:
		o.fail("has an unknown id")
	}
	if o.uint("version", 1<<16) != 3 {
		o.fail("is not of version 3")
	}
	t.issueDate, t.nextUpdate = o.time("issueDate"), o.time("nextUpdate")
	o.hex("fmspc", t.fmspc[:])
	o.hex("pceId", t.pceID[:])
	if o.uint("tcbType", 1<<16) != 0 {
		o.fail("is not of TCB type 0")
	}
	t.evaluation = uint32(o.uint("tcbEvaluationDataNumber", 1<<31))
	if t.tee == TDX {
		module := o.child("tdxModule")
		t.module = new(moduleIdentity)
		t.module.parse(module)
		if err := module.done(); err != nil {
			return nil, fault.Wrap(fault.TCBInfoMalformed, "", err)
		}
		modules := o.array("tdxModuleIdentities", maxModules, true)
		for i := range modules {
			m := modules[i].object("TDX module identity")
			identity := moduleIdentity{id: m.str("id")}
			identity.parse(m)
			if identity.levels, err = parseSVNLevels(m); err != nil {
				return nil, err
			}
			if err := m.done(); err != nil {
				return nil, fault.Wrap(fault.TCBInfoMalformed, "", err)
			}
			t.modules = append(t.modules, identity)
		}
	}
	for _, item := range o.array("tcbLevels", maxLevels, false) {
		level, err := parseTCBLevel(&item, t.tee)
		if err != nil {
			return nil, err
		}
		t.levels = append(t.levels, level)
	}
	if err := o.done(); err != nil {
		return nil, fault.Wrap(fault.TCBInfoMalformed, "", err)
	}
	return t, nil
}

func (m *moduleIdentity) parse(o *object) {
	o.hex("mrsigner", m.mrSigner[:])
	o.hex("attributes", m.attributes[:])
	o.hex("attributesMask", m.attributesMask[:])
}

func parseTCBLevel(item *jsonValue, tee TEE) (level tcbLevel, err error) {
	o := item.object("TCB level")
	tcb := o.child("tcb")
	components(tcb, "sgxtcbcomponents", &level.sgx)
	level.pceSVN = uint16(tcb.uint("pcesvn", 0xffff))
	if tee == TDX {
		components(tcb, "tdxtcbcomponents", &level.tdx)
	}
	if err := tcb.done(); err != nil {
		return level, fault.Wrap(fault.TCBInfoMalformed, "", err)
	}
	if level.standing, err = parseStanding(o); err != nil {
		return level, err
	}
	if err := o.done(); err != nil {
		return level, fault.Wrap(fault.TCBInfoMalformed, "", err)
	}
	return level, nil
}

func components(o *object, name string, dst *[16]uint8) {
	items := o.array(name, 16, false)
	if o.err == nil && len(items) != 16 {
		o.fail("has " + name + " that are not 16")
	}
	for i := range items {
		c := items[i].object("TCB component")
		dst[i] = uint8(c.uint("svn", 0xff))
		c.get("category", jsonString, true)
		c.get("type", jsonString, true)
		if err := c.done(); err != nil && o.err == nil {
			o.err = err
		}
	}
}

// parseSVNLevels reads the tcbLevels of a TDX module or quoting enclave.
func parseSVNLevels(o *object) (levels []svnLevel, err error) {
	for _, item := range o.array("tcbLevels", maxLevels, false) {
		l := item.object("level")
		tcb := l.child("tcb")
		level := svnLevel{svn: uint16(tcb.uint("isvsvn", 0xffff))}
		if err := tcb.done(); err != nil {
			return nil, fault.Wrap(fault.TCBInfoMalformed, "", err)
		}
		if level.standing, err = parseStanding(l); err != nil {
			return nil, err
		}
		if err := l.done(); err != nil {
			return nil, fault.Wrap(fault.TCBInfoMalformed, "", err)
		}
		levels = append(levels, level)
	}
	return levels, nil
}

func parseStanding(o *object) (s standing, err error) {
	s.date = o.time("tcbDate")
	s.status = Status(o.str("tcbStatus"))
	items := o.array("advisoryIDs", maxAdvisories, true)
	for i := range items {
		if items[i].kind != jsonString {
			o.fail("has an advisory that is not a string")
			break
		}
		s.advisories = append(s.advisories, items[i].str)
	}
	if o.err != nil {
		return s, fault.Wrap(fault.TCBInfoMalformed, "", o.err)
	}
	if _, ok := statusBits[s.status]; !ok {
		return s, fault.New(fault.TCBInfoStatus, strconv.Quote(string(s.status)))
	}
	return s, nil
}

// match finds the platform's level: the first, in the signed order, of which
// every component is at most the platform's. For a TDX module of version 1 or
// above, its own two components are judged by its identity instead.
func (t *tcbInfo) match(p *Platform, td *TDReport) (standing, error) {
	for i := range t.levels {
		l := &t.levels[i]
		if !atLeast(p.SVN[:], l.sgx[:]) || p.PCESVN < l.pceSVN {
			continue
		}
		if td != nil {
			from := 0
			if td.TEETCBSVN[1] > 0 {
				from = 2
			}
			if !atLeast(td.TEETCBSVN[from:], l.tdx[from:]) {
				continue
			}
		}
		return l.standing, nil
	}
	return standing{}, fault.New(fault.TCBUnsupported, "no TCB level is at most the platform's")
}

func atLeast(have, want []uint8) bool {
	for i := range want {
		if have[i] < want[i] {
			return false
		}
	}
	return true
}

// matchModule checks the TDX module's signer and attributes and finds its
// level. Version 0 has no level of its own: the platform's level covers it.
func (t *tcbInfo) matchModule(td *TDReport) (standing, error) {
	identity := t.module
	version := td.TEETCBSVN[1]
	if version > 0 {
		identity = nil
		id := ModuleID(version)
		for i := range t.modules {
			if strings.EqualFold(t.modules[i].id, id) {
				identity = &t.modules[i]
				break
			}
		}
		if identity == nil {
			return standing{}, fault.New(fault.ModuleUnknown, id)
		}
	}
	if td.MRSIGNERSEAM != identity.mrSigner {
		return standing{}, fault.New(fault.ModuleMRSigner, "")
	}
	var attributes [8]byte
	for i := range attributes {
		attributes[i] = byte(td.SEAMAttributes>>(8*i)) & identity.attributesMask[i]
		if attributes[i] != identity.attributes[i]&identity.attributesMask[i] {
			return standing{}, fault.New(fault.ModuleAttributes, "")
		}
	}
	if version == 0 {
		return standing{status: UpToDate}, nil
	}
	return matchSVN(identity.levels, uint16(td.TEETCBSVN[0]), fault.ModuleUnsupported)
}

func matchSVN(levels []svnLevel, svn uint16, code fault.Code) (standing, error) {
	for i := range levels {
		if svn >= levels[i].svn {
			return levels[i].standing, nil
		}
	}
	return standing{}, fault.New(code, "SVN "+strconv.Itoa(int(svn)))
}

// ModuleID is the name that TCB info gives to a TDX module of this version:
// "TDX_" and two hexadecimal digits, whose case does not matter (Intel's own
// verification library compares them so).
func ModuleID(version uint8) string {
	s := strings.ToUpper(strconv.FormatUint(uint64(version), 16))
	if len(s) == 1 {
		s = "0" + s
	}
	return "TDX_" + s
}

// mergeAdvisories returns the union, sorted.
func mergeAdvisories(lists ...[]string) []string {
	var out []string
	for _, l := range lists {
		out = append(out, l...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
