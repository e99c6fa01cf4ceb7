# From the sample to the configuration of the package: the places that Debian has for these things.
s|^\(state_directory = \).*|\1"/var/lib/sip-proxy"|
s|^\(control_socket = \).*|\1"/run/sip-proxy/control.sock"|
s|^\(log_file_directory = \).*|\1"/var/log/sip-proxy"|
