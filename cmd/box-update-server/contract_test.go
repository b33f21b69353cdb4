package main_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A clause is one numbered line of docs/COMPAT.md.
type clause struct {
	id     string
	client func(*testing.T, site) // what a client of a fleet sees, in front of a proxy or behind it
	own    func(*testing.T)       // what needs servers of its own
}

// A site is where clients find a fleet's server.
type site struct {
	base   string // without a slash at its end
	server *server
	dir    string // what fleet made
}

func contract() []clause {
	return []clause{
		{id: "1.1", own: settingsFromTheVariableAlone},
		{id: "1.2", own: portIsANumber},
		{id: "1.3", own: settingsAreAJSONObject},
		{id: "1.4", own: directoryIsRequired},
		{id: "1.5", own: unknownSettingsAreTolerated},
		{id: "2.1", own: allInterfaces},
		{id: "2.2", own: directoryIsOnlyRead},
		{id: "2.3", own: laterFilesAreServed},
		{id: "3.1", client: healthIsATree},
		{id: "3.2", client: healthIsMadePerRequest},
		{id: "4.1", client: lsListsNames},
		{id: "4.2", own: lsOfNothing},
		{id: "4.3", client: lsAscendsByVersion},
		{id: "5.1", client: versionIsTheNewest},
		{id: "5.2", own: versionOfNothing},
		{id: "6.1", client: latestRedirects},
		{id: "6.2", own: latestOfNothing},
		{id: "6.3", own: latestPrefersBzip2},
		{id: "6.4", own: versionAndLatestAgree},
		{id: "7.1", client: updateIsADownload},
		{id: "7.2", client: otherNamesAreNotFound},
		{id: "7.3", client: otherPathsAreNotFound},
		{id: "8.1", client: http10IsSpoken},
		{id: "8.2", own: proxyStripsThePrefix},
		{id: "8.3", client: leadingSlashesCollapse},
		{id: "9.1", own: properArchivesHaveNoWarning},
		{id: "9.2", own: improperArchivesAreServedWithAWarning},
		{id: "10.1", own: versionsAreNumbers},
		{id: "10.2", own: badNamesDisturbNothing},
		{id: "10.3", own: slowClientsBlockNobody},
		{id: "10.4", own: archivesAreNotHeldInMemory},
		{id: "10.5", client: onlyRegularFilesAreServed},
		{id: "10.6", client: headIsAnsweredAsGet},
		{id: "10.7", client: otherMethodsAreRefused},
		{id: "10.8", client: rangesAreServed},
		{id: "10.9", own: stalledClientsAreCut},
		{id: "11.1", own: withdrawnIsNotNotFound},
		{id: "11.2", own: fallsBackToTheUpdateBefore},
		{id: "11.3", client: cutDownloadsResume},
		{id: "11.4", own: replacedFilesAreSentWhole},
		{id: "11.5", own: wgetMixesAReplacedFile},
		{id: "11.6", own: oldDigestsOfReplacedFilesAreGone},
	}
}

func TestContract(t *testing.T) {
	direct := fleetSite(t)
	for _, c := range contract() {
		t.Run(c.id, func(t *testing.T) {
			t.Parallel()
			c.check(t, direct)
		})
	}
}

// check holds a clause; what needs no server of its own is asked at s.
func (c clause) check(t *testing.T, s site) {
	t.Helper()
	if c.own != nil {
		c.own(t)
		return
	}
	c.client(t, s)
}

// fleetSite serves a fleet's directory without anything in front.
func fleetSite(t *testing.T) site {
	t.Helper()
	dir := fleet(t)
	s := serve(t, dir)
	s.awaitHashed(t, newest)
	return site{s.base, s, dir}
}

// Each clause stands in the document under its number, and the other way round.
func TestContractIsDocumented(t *testing.T) {
	var want, got []string
	for _, c := range contract() {
		want = append(want, c.id)
	}
	for _, m := range regexp.MustCompile(`(?m)^\*\*(\d+\.\d+)\*\* `).FindAllStringSubmatch(string(read(t, "../../docs/COMPAT.md")), -1) {
		got = append(got, m[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("docs/COMPAT.md has %s\nthe tests are  %s", strings.Join(got, " "), strings.Join(want, " "))
	}
}
