# Asks PVE's own code about values: one JSON array of cases on stdin, one of
# answers on stdout. The first argument stands in for /sys/bus/pci.
use strict;
use warnings;

use JSON;

# SysFSTools names its folder in the source: it is loaded with another one.
BEGIN {
    unshift @INC, sub {
        my (undef, $name) = @_;
        return if $name ne 'PVE/SysFSTools.pm';
        for my $dir (grep { !ref } @INC) {
            open(my $file, '<', "$dir/$name") or next;
            my $text = do { local $/; <$file> };
            my $count = ($text =~ s|"/sys/bus/pci"|"$ARGV[0]"|g);
            die "SysFSTools has another folder now\n" if !$count;
            return \$text;
        }
        return;
    };
}

# Parts of a node that are named there, and not asked anything here.
BEGIN { $INC{$_} = 1 for qw(PVE/IPCC.pm PVE/RS/NVML.pm) }

use PVE::INotify;
use PVE::Mapping::PCI;
use PVE::QemuServer::PCI;

{ no warnings 'redefine'; *PVE::INotify::nodename = sub { 'pve1' }; }
$SIG{__WARN__} = sub { };

sub words {
    my ($error) = @_;
    my $text = "$error";
    $text .= join(' ', map { "$_: $error->{errors}->{$_}" } sort keys $error->{errors}->%*)
        if ref($error) && $error->{errors};
    $text =~ s/\s+$//;
    return $text;
}

sub answer {
    my ($case) = @_;
    $PVE::Cluster::text = $case->{mapping} // '';
    if (exists $case->{guest}) {
        my $devices = {};
        for my $key (sort keys $case->{guest}->%*) {
            $devices->{$key} = PVE::QemuServer::PCI::parse_hostpci($case->{guest}->{$key});
        }
        my $chosen = PVE::QemuServer::PCI::choose_hostpci_devices($devices, 100, 1);
        return { map { ($_ => [map { $_->{id} } $chosen->{$_}->{ids}->@*]) } keys %$chosen };
    }
    if (exists $case->{hostpci}) {
        my $device = PVE::QemuServer::PCI::parse_hostpci($case->{hostpci});
        die "empty\n" if !$device;
        return {
            alternatives => [map { [map { $_->{id} } $_->@*] } $device->{ids}->@*],
            keep => ($device->{driver} // '') eq 'keep' ? JSON::true : JSON::false,
            mdev => $device->{mdev},
        };
    }
    # An entry: whether it can be read, and what PVE says of it.
    my $entries = PVE::Mapping::PCI::find_on_current_node('gpu0');
    die "unreadable\n" if !$entries || !scalar($entries->@*);
    PVE::Mapping::PCI::assert_valid('gpu0', $entries->[0]);
    return {};
}

my $answers = [];
for my $case (JSON->new->decode(do { local $/; <STDIN> })->@*) {
    my $ok = eval { answer($case) };
    push $answers->@*, $ok ? { ok => $ok } : { error => words($@) };
}
print JSON->new->canonical->encode($answers);
