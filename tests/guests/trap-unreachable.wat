;; Gives up.
;; expect: unreachable
(func $on_null (param $row i32) (unreachable))
