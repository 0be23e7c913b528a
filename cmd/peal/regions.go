package main

import (
	"fmt"
	"strings"

	"github.com/pealhq/peal"
	"github.com/pealhq/peal/bus"
)

// checkRegions refuses a table of regions that can't be.
func (s *settings) checkRegions() error {
	if _, err := bus.ParseRegion(s.region); err != nil {
		return usagef("--region %s", strings.TrimPrefix(err.Error(), "region: "))
	}
	if s.regions == "" {
		if s.home != "" || s.homes != "" {
			return usagef("home and homes are for where there are several regions: say regions too, with this one among them")
		}
		return nil
	}
	if s.home == "" {
		return usagef("regions needs home: the region of tenants that homes does not name, the same everywhere")
	}
	if s.nats == "" {
		return usagef("regions needs --nats: the embedded JetStream is of one region")
	}
	homes, err := s.readHomes()
	if err != nil {
		return err
	}
	if err := (bus.Config{Region: bus.Region(s.region), Regions: s.allRegions(), Home: bus.Region(s.home), Homes: homes}).CheckRegions(); err != nil {
		return usagef("regions: %v", err)
	}
	return nil
}

// allRegions lists those that serve.
func (s *settings) allRegions() (all []bus.Region) {
	if s.regions == "" {
		return nil
	}
	for _, r := range strings.Split(s.regions, ",") {
		all = append(all, bus.Region(strings.TrimSpace(r)))
	}
	return all
}

// readHomes reads homes: TENANT=REGION each.
func (s *settings) readHomes() (map[peal.Tenant]bus.Region, error) {
	if s.homes == "" {
		return nil, nil
	}
	all := make(map[peal.Tenant]bus.Region)
	for _, one := range strings.Split(s.homes, ",") {
		id, region, found := strings.Cut(strings.TrimSpace(one), "=")
		if !found {
			return nil, usagef("homes: %q must be TENANT=REGION", one)
		}
		t, err := peal.ParseTenant(strings.TrimSpace(id))
		if err != nil {
			return nil, usagef("homes: %s", strings.TrimPrefix(err.Error(), "tenant: "))
		}
		if _, twice := all[t]; twice {
			return nil, usagef("homes: tenant %s is given twice", t)
		}
		all[t] = bus.Region(strings.TrimSpace(region))
	}
	return all, nil
}

// tenantHomes are those of readHomes; check has read them.
func (s *settings) tenantHomes() map[peal.Tenant]bus.Region {
	all, _ := s.readHomes()
	return all
}

// regionOf says where a region's stream is, for people.
func regionOf(s bus.RegionStream) string {
	if s.Home == "" {
		return "-"
	}
	return fmt.Sprint(s.Home)
}
